/**
 * Measured times, kept from build to build in one JSON file for all devices.
 *
 * A time belongs to a section (the device with its driver, limits and toggles, and the version of this tool) and in it to the hash
 * of a candidate's kernels, grids and operand sizes. Several processes may use the file at once: it is written by reading, merging and
 * renaming under a lock. The file is never a reason for a build to fail: what can't be used is put aside and told. Prior art:
 * TensorRT's timing cache, which is bound to one device, too.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { lock } from 'proper-lockfile';
import { z } from 'zod';
import { canonicalJson } from '../../../engine/canonical.ts';
import type { Timing } from './decide.ts';

const FORMAT = 'tsrt-bench timing cache';
/** Bumped when what a time means changes. */
const VERSION = 2;

const when = z.iso.datetime();
const entrySchema = z.union([
  z.strictObject({ ns: z.number().positive(), spreadNs: z.number().nonnegative(), when }),
  z.strictObject({ refused: z.string(), when }),
]);
const sectionSchema = z.strictObject({ tool: z.string(), device: z.record(z.string(), z.string()), kernels: z.record(z.string(), entrySchema) });
const fileSchema = z.strictObject({ format: z.literal(FORMAT), version: z.literal(VERSION), sections: z.record(z.string(), sectionSchema) });

export type CacheEntry = z.infer<typeof entrySchema>;
export type CacheFile = z.infer<typeof fileSchema>;

/** What times are good for. */
export interface CacheIdentity {
  readonly tool: string;
  /** Properties of the device. */
  readonly device: Readonly<Record<string, string>>;
}

/** A lock whose holder has not touched it for so long is taken over: its process died. */
const STALE_MS = 10_000;

export class TimingCache {
  readonly notices: string[] = [];
  readonly #file: string | undefined;
  readonly #identity: CacheIdentity;
  readonly #section: string;
  readonly #known = new Map<string, CacheEntry>();
  readonly #unsaved = new Map<string, CacheEntry>();

  private constructor(file: string | undefined, identity: CacheIdentity) {
    this.#file = file;
    this.#identity = identity;
    this.#section = createHash('sha256').update(canonicalJson(identity)).digest('hex').slice(0, 16);
  }

  /** Reads what the file has for this device; without a file, nothing outlives the build. */
  static async open(file: string | undefined, identity: CacheIdentity): Promise<TimingCache> {
    const cache = new TimingCache(file, identity);
    if (file === undefined) return cache;
    const found = await readCache(file);
    if (found.status === 'unusable') cache.notices.push(`The timing cache ${file} can't be used (${found.reason}); times are measured again, and it is kept beside the new one.`);
    if (found.status !== 'read') return cache;
    const { sections } = found.content;
    for (const [hash, entry] of Object.entries(sections[cache.#section]?.kernels ?? {})) cache.#known.set(hash, entry);
    const others = Object.keys(sections).length;
    if (others > 0 && !sections[cache.#section]) cache.notices.push(`The timing cache ${file} has times of ${others === 1 ? 'another device or version' : `${others} other devices or versions`} only; they are kept and not used.`);
    return cache;
  }

  get(hash: string): Timing | undefined {
    const entry = this.#known.get(hash);
    if (!entry) return undefined;
    return 'refused' in entry ? { refused: entry.refused } : { ns: entry.ns, spreadNs: entry.spreadNs };
  }

  put(hash: string, timing: Timing): void {
    const entry: CacheEntry = { ...timing, when: new Date().toISOString() };
    this.#known.set(hash, entry);
    this.#unsaved.set(hash, entry);
  }

  /** Writes what is new. What keeps it from being written becomes a notice, once. */
  async flush(): Promise<void> {
    if (this.#file === undefined || this.#unsaved.size === 0) return;
    const writing = new Map(this.#unsaved);
    try {
      await this.#merge(this.#file, writing);
      for (const [hash, entry] of writing) if (this.#unsaved.get(hash) === entry) this.#unsaved.delete(hash);
    } catch (error) {
      const text = `The timing cache ${this.#file} could not be written: ${error instanceof Error ? error.message : String(error)}`;
      if (!this.notices.includes(text)) this.notices.push(text);
    }
  }

  async #merge(file: string, entries: ReadonlyMap<string, CacheEntry>): Promise<void> {
    await mkdir(dirname(file), { recursive: true });
    const release = await lock(file, { realpath: false, stale: STALE_MS, retries: { retries: 40, minTimeout: 25, maxTimeout: 500 }, onCompromised: () => undefined });
    try {
      const found = await readCache(file);
      if (found.status === 'unusable') await rename(file, await freeName(`${file}.unusable`));
      const content = merged(found.status === 'read' ? found.content : emptyCache(), this.#section, this.#identity, entries);
      await writeWhole(file, canonicalJson(content));
    } finally {
      await release().catch(() => undefined);
    }
  }
}

export function emptyCache(): CacheFile {
  return { format: FORMAT, version: VERSION, sections: {} };
}

/** The file with the entries in their section; of two for one kernel the later one stays. */
export function merged(content: CacheFile, section: string, { tool, device }: CacheIdentity, entries: ReadonlyMap<string, CacheEntry>): CacheFile {
  const kernels = { ...content.sections[section]?.kernels };
  for (const [hash, entry] of entries) {
    const known = kernels[hash];
    if (!known || known.when <= entry.when) kernels[hash] = entry;
  }
  return { ...content, sections: { ...content.sections, [section]: { tool, device: { ...device }, kernels } } };
}

type Found = { readonly status: 'absent' } | { readonly status: 'unusable'; readonly reason: string } | { readonly status: 'read'; readonly content: CacheFile };

async function readCache(file: string): Promise<Found> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    return absent ? { status: 'absent' } : { status: 'unusable', reason: error instanceof Error ? error.message : String(error) };
  }
  try {
    const value: unknown = JSON.parse(text);
    const parsed = fileSchema.safeParse(value);
    if (parsed.success) return { status: 'read', content: parsed.data };
    const version = (value as { readonly version?: unknown } | null)?.version;
    return { status: 'unusable', reason: typeof version === 'number' && version !== VERSION ? `it has version ${version}, this tool's is ${VERSION}` : 'it is not a timing cache' };
  } catch {
    return { status: 'unusable', reason: 'it is not JSON' };
  }
}

async function freeName(base: string): Promise<string> {
  for (let i = 1; ; i++) {
    const name = i === 1 ? base : `${base}-${i}`;
    if (!(await stat(name).catch(() => undefined))) return name;
  }
}

async function writeWhole(file: string, text: string): Promise<void> {
  const part = `${file}.${process.pid}.part`;
  try {
    await writeFile(part, text);
    await rename(part, file);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}
