/**
 * Baselines as objects: `index.json` says which object each place has, with its hash. A new baseline is written under a key of
 * its own first and becomes the baseline when the index points to it, on the condition that nobody changed the index meanwhile
 * (If-Match). So readers see the old one or the new one, a write that breaks off leaves the old one, and all that came before
 * stays where it is.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { TsrtError } from '../../errors.ts';
import type { Condition, Objects } from './http.ts';
import { type BaselineFile, type BaselinePlace, type BaselineStore, taken, type UpdateEntry } from './contract.ts';

const entrySchema = z.strictObject({
  key: z.string().min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  bytes: z.number().int().nonnegative(),
  update: z.strictObject({
    at: z.string(),
    runId: z.string(),
    cases: z.number(),
    verdict: z.string().exactOptional(),
    changes: z.array(z.string()).exactOptional(),
    forced: z.boolean().exactOptional(),
  }),
});

/** Versions of each place, oldest first; the last is in force. By `name/suite/device`. */
const indexSchema = z.strictObject({ schemaVersion: z.literal(1), places: z.record(z.string().regex(/^[^/]+\/[^/]+\/[^/]+$/), z.array(entrySchema).min(1)) });

type Index = z.infer<typeof indexSchema>;
type Entry = z.infer<typeof entrySchema>;

const INDEX = 'index.json';

/** Tries to change the index while others change it too. */
const TRIES = 6;

interface ReadIndex {
  readonly index: Index;
  /** What the index must still be when it is written. */
  readonly condition: Condition;
}

export function remoteStore(objects: Objects): BaselineStore {
  const places = async (name?: string): Promise<BaselinePlace[]> => {
    const { index } = await readIndex(objects);
    return Object.keys(index.places)
      .sort()
      .map((id) => placeOf(objects, index, id))
      .filter((place) => name === undefined || place.name === name);
  };
  return {
    label: objects.label,
    places,
    names: async () => [...new Set((await places()).map((place) => place.name))],
    async read(place) {
      const { index } = await readIndex(objects);
      const entry = index.places[idOf(place)]?.at(-1);
      const found = entry && (await objects.get(entry.key));
      if (!entry || !found) throw damaged(place, 'is not where the index says it is');
      if (found.bytes.length !== entry.bytes || sha256(found.bytes) !== entry.sha256) throw damaged(place, `is not what was saved (${found.bytes.length} bytes of ${entry.bytes})`);
      return found.bytes;
    },
    replace: (name, files, force) => replace(objects, name, files, force),
    async remove(_name, gone) {
      const ids = new Set(gone.map(idOf));
      await change(objects, (index): Index => ({ ...index, places: Object.fromEntries(Object.entries(index.places).filter(([id]) => !ids.has(id))) }));
    },
    async history(place) {
      const { index } = await readIndex(objects);
      return (index.places[idOf(place)] ?? []).map(({ update }): UpdateEntry => update);
    },
  };
}

async function replace(objects: Objects, name: string, files: readonly BaselineFile[], force: boolean): Promise<BaselinePlace[]> {
  const { index: before } = await readIndex(objects);
  const entries = files.map((file) => entryOf(name, file));
  const known = (index: Index): string[] => entries.filter(({ id }) => index.places[id]).map(({ id }) => id);
  if (!force && known(before).length > 0) throw taken(name, known(before).map((id) => placeOf(objects, before, id)));
  for (const { entry, file } of entries) await objects.put(entry.key, file.text);
  const after = await change(objects, (index): Index => {
    const moved = entries.find(({ id, entry }) => lastKey(index, id) !== lastKey(before, id) && lastKey(index, id) !== entry.key);
    if (moved) {
      throw new TsrtError('RESULTS_LOCKED', `another process changed baseline '${name}' (${moved.id}) in the meantime`, {
        place: objects.placeOf(INDEX),
        fix: 'look at the new one (`tsrt-bench baseline list`), gate against it, and save again if you still want to',
      });
    }
    const added = entries.map(({ id, entry }): [string, Entry[]] => [id, [...(index.places[id] ?? []).filter((old) => old.key !== entry.key), entry]]);
    return { ...index, places: { ...index.places, ...Object.fromEntries(added) } };
  });
  return entries.map(({ id }) => placeOf(objects, after, id));
}

/** Reads, changes and writes the index until nobody came in between. */
async function change(objects: Objects, edit: (index: Index) => Index): Promise<Index> {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const { index, condition } = await readIndex(objects);
    const next = edit(index);
    const text = `${JSON.stringify(next, null, 2)}\n`;
    if (text === `${JSON.stringify(index, null, 2)}\n`) return next;
    const outcome = await objects.put(INDEX, text, condition);
    if (outcome === 'written') return next;
    if (outcome === 'unconditional') {
      await objects.put(INDEX, text);
      return next;
    }
    // Somebody was faster, or a retry met what the first try had written after all: look again.
  }
  throw new TsrtError('RESULTS_LOCKED', 'the baseline index keeps changing: other processes are writing it', { place: objects.placeOf(INDEX), fix: 'try again when they have finished' });
}

async function readIndex(objects: Objects): Promise<ReadIndex> {
  const found = await objects.get(INDEX);
  if (!found) return { index: { schemaVersion: 1, places: {} }, condition: { kind: 'absent' } };
  const place = objects.placeOf(INDEX);
  const parsed = indexSchema.safeParse(parseJson(found.bytes, place));
  if (!parsed.success) {
    throw new TsrtError('RESULTS_INVALID', "this version can't read the baseline index", {
      place,
      details: parsed.error.issues.slice(0, 3).map((issue) => `${issue.path.join('.') || 'index'}: ${issue.message}`),
      fix: 'check the address given with --store; update tsrt-bench if a newer one wrote it, or restore index.json from a backup',
    });
  }
  return { index: parsed.data, condition: found.etag === undefined ? undefined : { kind: 'etag', etag: found.etag } };
}

function parseJson(bytes: Buffer, place: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new TsrtError('RESULTS_INVALID', bytes.length === 0 ? 'the baseline index is empty' : 'the baseline index is not JSON', {
      place,
      fix: 'check the address given with --store, or restore index.json from a backup; the baselines beside it are untouched',
      cause,
    });
  }
}

function entryOf(name: string, file: BaselineFile): { readonly id: string; readonly entry: Entry; readonly file: BaselineFile } {
  const hash = sha256(Buffer.from(file.text));
  const id = `${name}/${file.suite}/${file.device}`;
  const { changes, ...update } = file.entry;
  const entry = { key: `${id}/${hash.slice(0, 16)}.jsonl`, sha256: hash, bytes: Buffer.byteLength(file.text), update: { ...update, ...(changes && { changes: [...changes] }) } };
  return { id, entry, file };
}

function idOf({ name, suite, device }: BaselinePlace): string {
  return `${name}/${suite}/${device}`;
}

function lastKey(index: Index, id: string): string | undefined {
  return index.places[id]?.at(-1)?.key;
}

function placeOf(objects: Objects, index: Index, id: string): BaselinePlace {
  const [name = '', suite = '', device = ''] = id.split('/');
  return { name, suite, device, path: objects.placeOf(lastKey(index, id) ?? INDEX) };
}

function damaged(place: BaselinePlace, what: string): TsrtError {
  return new TsrtError('RESULTS_INVALID', `the stored baseline ${what}: it is cut off or was changed by hand`, {
    place: place.path,
    fix: `save it again: \`tsrt-bench baseline save ${place.name} --force\``,
  });
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
