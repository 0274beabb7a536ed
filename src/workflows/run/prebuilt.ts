/**
 * Engine files as variants of a run: measured as they are, in place of engines built for it. Refused, all at once and before
 * anything runs, where they come from another model, or from another tool version or device.
 */
import { basename } from 'node:path';
import type { Availability, Backend } from '../../backends/backend.ts';
import { TsrtError } from '../../errors.ts';
import type { Registry } from '../../registry.ts';
import type { BenchRecord, Case, Variant } from '../../results/record.ts';
import { casesOf, expandCases, type Machine, type SuiteOverrides, variantId } from '../../suite/expand.ts';
import type { Suite } from '../../suite/schema.ts';
import { type EngineFile, readEngineFile, refusedEngines, requireLoaded, whyNotHere } from '../engine-file.ts';
import type { OnRunEvent } from '../events.ts';
import { engineKey } from './engines.ts';

/** Engine files by the key of their variant. */
export type PrebuiltEngines = ReadonlyMap<string, EngineFile>;

export interface PrebuiltCases {
  readonly cases: readonly Case[];
  readonly prebuilt: PrebuiltEngines;
}

/**
 * The cases of engine files under the suite's scenarios; where backends are asked for by name, also the suite's own of these.
 * A file whose variant is there already is told apart by its name. Throws USAGE where flags say how to build what is built.
 */
export async function prebuiltCases(files: readonly string[], suite: Suite, overrides: SuiteOverrides, machine: Machine): Promise<PrebuiltCases> {
  checkOverrides(overrides);
  const built = overrides.backend === undefined ? [] : expandCases(suite, {}, machine);
  const taken = new Set(built.map(({ variant }) => engineKey(variant)));
  const prebuilt = new Map<string, EngineFile>();
  const variants: Variant[] = [];
  for (const file of files) {
    const read = await readEngineFile(file);
    const { options } = read.header;
    const plain: Variant = { id: variantId(options), options };
    const variant = taken.has(engineKey(plain)) ? { id: `${plain.id}/${basename(file).replace(/[^A-Za-z0-9._-]+/g, '_')}`, options } : plain;
    const key = engineKey(variant);
    if (taken.has(key)) throw new TsrtError('USAGE', `two engine files are called ${basename(file)}`, { place: file, fix: 'give each file once, under a name of its own' });
    taken.add(key);
    prebuilt.set(key, read);
    variants.push(variant);
  }
  return { cases: [...casesOf(suite, variants), ...built], prebuilt };
}

function checkOverrides({ backend, precision, fusion, batch, backendOptions, ownOptions, dims, inputShapes }: SuiteOverrides): void {
  if (backend !== undefined) return;
  const own = Object.fromEntries(Object.values(ownOptions ?? {}).flatMap((options) => Object.entries(options).map(([key, values]) => [`--${key}`, values])));
  const named = (sizes: Readonly<Record<string, unknown>> = {}) => (Object.keys(sizes).length > 0 ? sizes : undefined);
  const given = Object.entries({ '--dim': named(dims), '--shape': named(inputShapes), '--precision': precision, '--fusion': fusion, '--batch': batch, '--option': backendOptions, ...own });
  const flags = given.flatMap(([flag, value]) => (value === undefined ? [] : [flag]));
  if (flags.length === 0) return;
  throw new TsrtError('USAGE', `${flags.join(', ')} ${flags.length === 1 ? 'says' : 'say'} how to build an engine, but --engine gives engines that are already built`, {
    fix: 'leave it out, or use --backend to name backends whose engines are built and measured beside the files',
  });
}

/** The engines that run as they are; the others are built again if that is allowed. Throws TsrtError ENGINE_INCOMPATIBLE. */
export async function admitEngines(
  engines: PrebuiltEngines,
  about: {
    readonly modelSha256: string;
    readonly registry: Registry;
    readonly probe: (backend: Backend) => Promise<Availability>;
    readonly rebuild: boolean;
    readonly onEvent: OnRunEvent;
  },
): Promise<PrebuiltEngines> {
  requireLoaded([...engines.values()], about.registry.stamps);
  const admitted = new Map<string, EngineFile>();
  const refused: { readonly file: string; readonly reasons: readonly string[] }[] = [];
  for (const [key, read] of engines) {
    const { header } = read;
    const foreign = header.model.sha256 === about.modelSha256 ? [] : [`model: engine ${short(header.model.sha256)}, here ${short(about.modelSha256)}`];
    const reasons = [...foreign, ...whyNotHere(read, await about.probe(about.registry.backend(header.backend)), about.registry.stamps)];
    if (reasons.length === 0) admitted.set(key, read);
    else refused.push({ file: read.file, reasons });
  }
  if (refused.length > 0 && !about.rebuild) throw refusedEngines(refused);
  for (const { file, reasons } of refused) about.onEvent({ kind: 'notice', text: `${basename(file)} is built again for this run: ${reasons.join('; ')}` });
  return admitted;
}

/** Throws USAGE where a record that a resumed run keeps was made with another file. */
export function checkResumed(engines: PrebuiltEngines, finished: readonly BenchRecord[]): void {
  for (const record of finished) {
    const now = engines.get(engineKey(record.case.variant));
    if (!now || record.status !== 'completed' || record.build.engineSha256 === now.sha256) continue;
    throw new TsrtError('USAGE', `the run can't be resumed: it measured another ${basename(now.file)}`, {
      place: now.file,
      fix: 'give the same engine files, or leave out --resume for a new run',
    });
  }
}

function short(sha256: string): string {
  return sha256.slice(0, 16);
}
