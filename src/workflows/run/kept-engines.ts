/**
 * Engines of a run that was cut off, and what was found of their accuracy, kept in the cache folder until it is resumed: to build, tune and assess
 * them again would take the time that was just lost. There are those of one run per suite, its latest, which is the one that `--resume` goes on
 * with.
 */
import { copyFile, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import type { Availability } from '../../backends/backend.ts';
import { canonicalJson } from '../../engine/canonical.ts';
import type { PluginStamp } from '../../ir/custom.ts';
import { accuracyToMemory, accuracyToWire } from '../../results/codec.ts';
import type { Variant } from '../../results/record.ts';
import { wireAccuracy } from '../../results/wire.ts';
import type { AccuracyResult } from '../../suite/accuracy.ts';
import { type EngineFile, readEngineFile, whyNotHere } from '../engine-file.ts';

const accuracySchema = z.strictObject({
  /** SHA-256 of the engine. */
  engine: z.string(),
  reading: wireAccuracy,
  referenceTop1Percent: z.number().exactOptional(),
  nonFiniteSamples: z.number(),
});

const indexSchema = z.strictObject({
  runId: z.string(),
  accuracy: z.array(accuracySchema),
  engines: z.array(z.strictObject({ file: z.string(), variant: z.string(), sha256: z.string(), buildMs: z.number(), buildsMs: z.array(z.number()) })),
});
type Index = z.infer<typeof indexSchema>;

const INDEX = 'engines.json';

/** An engine as it was built, with the times that its building took then. */
export interface KeptEngine {
  readonly read: EngineFile;
  readonly buildMs: number;
  readonly buildsMs: readonly number[];
}

/** A built engine's file, with what is to be known of it when it is used again. */
interface NewEngine {
  readonly path: string;
  readonly variant: Variant;
  readonly sha256: string;
  readonly buildMs: number;
  readonly buildsMs?: readonly number[];
}

export class KeptEngines {
  readonly #folder: string;
  readonly #runId: string;
  readonly #stamps: readonly PluginStamp[];
  readonly #built: NewEngine[] = [];
  /** By the engine's hash. */
  readonly #assessed = new Map<string, AccuracyResult>();

  constructor(about: { readonly cache: string; readonly suite: string; readonly runId: string; readonly stamps: readonly PluginStamp[] }) {
    this.#folder = join(about.cache, 'interrupted', about.suite.replace(/[^A-Za-z0-9._-]+/g, '_'));
    this.#runId = about.runId;
    this.#stamps = about.stamps;
  }

  /** What an earlier part of this run built for the variant, if it still is what it was and fits this device and version. */
  async take(variant: Variant, availability: Availability): Promise<KeptEngine | undefined> {
    const index = await this.#index();
    const entry = index?.runId === this.#runId ? index.engines.find((one) => one.variant === canonicalJson(variant)) : undefined;
    if (!entry) return undefined;
    const read = await readEngineFile(join(this.#folder, basename(entry.file))).catch(() => undefined);
    if (read?.sha256 !== entry.sha256 || whyNotHere(read, availability, this.#stamps).length > 0) return undefined;
    return { read, buildMs: entry.buildMs, buildsMs: entry.buildsMs };
  }

  /** Tells of an engine of this run. */
  note(engine: NewEngine): void {
    this.#built.push(engine);
  }

  /** What an earlier part of this run found of an engine's accuracy on these inputs (a dataset's description). */
  async accuracyOf(sha256: string, inputs: string): Promise<AccuracyResult | undefined> {
    const index = await this.#index();
    const entry = index?.runId === this.#runId ? index.accuracy.find(({ engine, reading }) => engine === sha256 && reading.inputs === inputs) : undefined;
    if (!entry) return undefined;
    const { reading, referenceTop1Percent, nonFiniteSamples } = entry;
    return { reading: accuracyToMemory(reading), referenceTop1Percent, nonFiniteSamples };
  }

  /** Tells of the accuracy of an engine of this run. */
  noteAccuracy(sha256: string, result: AccuracyResult): void {
    this.#assessed.set(sha256, result);
  }

  /** Keeps this run's engines in place of those of earlier runs, also such as were not asked for again; gives their bytes. */
  async keep(): Promise<number> {
    const index = await this.#index();
    const entries = this.#built.map(({ path, variant, sha256, buildMs, buildsMs = [] }) => ({ path, variant: canonicalJson(variant), sha256, buildMs, buildsMs: [...buildsMs] }));
    const built = new Set(entries.map(({ variant }) => variant));
    const before = index?.runId === this.#runId ? index.engines.filter(({ variant }) => !built.has(variant)) : [];
    const all = [...entries, ...before.map(({ file, ...entry }) => ({ ...entry, path: join(this.#folder, basename(file)) }))];
    if (all.length === 0) return 0;
    const fresh = `${this.#folder}.new`;
    await rm(fresh, { recursive: true, force: true });
    await mkdir(fresh, { recursive: true });
    const engines: Index['engines'] = [];
    let bytes = 0;
    for (const [i, { path, ...entry }] of all.entries()) {
      const file = `${i}.engine`;
      await copyFile(path, join(fresh, file));
      bytes += (await stat(path)).size;
      engines.push({ file, ...entry });
    }
    const assessed = [...this.#assessed].map(([engine, { reading, ...result }]) => ({ engine, ...result, reading: accuracyToWire(reading) }));
    const earlier = (index?.runId === this.#runId ? index.accuracy : []).filter(({ engine }) => !this.#assessed.has(engine));
    await writeFile(join(fresh, INDEX), JSON.stringify({ runId: this.#runId, engines, accuracy: [...assessed, ...earlier] }));
    await this.drop();
    await rename(fresh, this.#folder);
    return bytes;
  }

  async drop(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Nothing where the file is not there, or is none of ours. */
  async #index(): Promise<Index | undefined> {
    const text = await readFile(join(this.#folder, INDEX), 'utf8').catch(() => undefined);
    if (text === undefined) return undefined;
    try {
      return indexSchema.parse(JSON.parse(text));
    } catch {
      return undefined;
    }
  }
}
