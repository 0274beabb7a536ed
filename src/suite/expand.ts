/**
 * Suite × overrides → cases: the cross product of the variant axes, batches and scenarios, in the order the file gives,
 * without duplicates. Ids are stable: they name every option that a suite can vary.
 */
import { TsrtError } from '../errors.ts';
import type { BuildOptions, Fusion, Precision } from '../engine/engine.ts';
import type { Case, Scenario, Variant } from '../results/record.ts';
import type { Suite, VariantAxes, VariantMatch } from './schema.ts';

/** What the command line may say instead of the suite; undefined leaves the suite's word. */
export interface SuiteOverrides {
  readonly backend?: readonly string[] | undefined;
  readonly precision?: readonly Precision[] | undefined;
  readonly fusion?: readonly Fusion[] | undefined;
  readonly batch?: readonly number[] | undefined;
  readonly backendOptions?: Readonly<Record<string, readonly (string | number | boolean)[]>> | undefined;
  /** Options of single backends, by its name: `{ webgpu: { fallback: ['onnxruntime'] } }`; an empty list takes the suite's option away. */
  readonly ownOptions?: Readonly<Record<string, Readonly<Record<string, readonly (string | number | boolean)[]>>>> | undefined;
  /** Sizes of symbolic dimensions, over the suite's. */
  readonly dims?: Readonly<Record<string, number>> | undefined;
  /** Shapes of inputs, over the suite's. */
  readonly inputShapes?: Readonly<Record<string, readonly number[]>> | undefined;
  readonly rounds?: number | undefined;
  readonly timeMs?: number | undefined;
  readonly budgetMs?: number | undefined;
  /** Absolute. */
  readonly dataset?: string | undefined;
}

export interface Machine {
  /** Logical cores, what `threads: all` means. */
  readonly cores: number;
}

type OptionValue = string | number | boolean;

/** The suite with the overrides put in. Doing it twice gives the same. */
export function overrideSuite(suite: Suite, overrides: SuiteOverrides): Suite {
  const change = (list: readonly VariantAxes[]) =>
    overrideBackend(list, overrides.backend)
      .map((axes) => overrideAxes(axes, overrides))
      .flatMap((axes) => splitOwnOptions(axes, overrides.ownOptions));
  return {
    ...suite,
    variants: change(suite.variants),
    include: change(suite.include),
    batches: [...(overrides.batch ?? suite.batches)],
    dims: { ...suite.dims, ...overrides.dims },
    inputShapes: { ...suite.inputShapes, ...Object.fromEntries(Object.entries(overrides.inputShapes ?? {}).map(([name, shape]) => [name, [...shape]])) },
    measure: {
      ...suite.measure,
      ...(overrides.rounds !== undefined && { rounds: overrides.rounds }),
      ...(overrides.timeMs !== undefined && { timeMs: overrides.timeMs }),
      ...(overrides.budgetMs !== undefined && { budgetMs: overrides.budgetMs }),
    },
    dataset: { ...suite.dataset, ...(overrides.dataset !== undefined && { path: overrides.dataset }) },
  };
}

/**
 * A backend that the suite names keeps the options the suite gives it. One that it does not name takes over the other axes
 * without options, which are another backend's.
 */
function overrideBackend(list: readonly VariantAxes[], backends: readonly string[] | undefined): VariantAxes[] {
  if (backends === undefined) return [...list];
  return backends.flatMap((backend) => {
    const own = list.filter((axes) => axes.backend.includes(backend));
    const options = own.length > 0 ? {} : { backendOptions: {} };
    return (own.length > 0 ? own : list).map((axes) => Object.assign({}, axes, options, { backend: [backend] }));
  });
}

function overrideAxes(axes: VariantAxes, overrides: SuiteOverrides): VariantAxes {
  const backendOptions = { ...axes.backendOptions };
  for (const [key, values] of Object.entries(overrides.backendOptions ?? {})) backendOptions[key] = [...values];
  return {
    ...axes,
    precision: [...(overrides.precision ?? axes.precision)],
    fusion: [...(overrides.fusion ?? axes.fusion)],
    backendOptions,
  };
}

/** Axes of several backends, of which some get options that the others would refuse, become axes of one backend each. */
function splitOwnOptions(axes: VariantAxes, own: SuiteOverrides['ownOptions'] = {}): VariantAxes[] {
  if (!axes.backend.some((backend) => Object.hasOwn(own, backend))) return [axes];
  return axes.backend.map((backend): VariantAxes => {
    const backendOptions = { ...axes.backendOptions };
    for (const [key, values] of Object.entries(own[backend] ?? {})) {
      if (values.length > 0) backendOptions[key] = [...values];
      else delete backendOptions[key];
    }
    return { ...axes, backend: [backend], backendOptions };
  });
}

/** Every case of the suite, in order. Throws SUITE_INVALID where nothing is left, or two variants would share an id. */
export function expandCases(suite: Suite, overrides: SuiteOverrides, machine: Machine): readonly Case[] {
  const asked = overrideSuite(suite, overrides);
  const fromAxes = asked.variants
    .flatMap((axes) => expandAxes(asked, axes, machine))
    .filter((variant) => !asked.exclude.some((match) => matchesVariant(match, variant.options, machine)));
  const variants = [...fromAxes, ...asked.include.flatMap((axes) => expandAxes(asked, axes, machine))];
  const cases = casesOf(asked, variants);
  if (cases.length === 0) {
    throw new TsrtError('SUITE_INVALID', 'the suite has no cases: exclude removes every variant', {
      place: suite.file,
      fix: 'loosen exclude, or add variants',
    });
  }
  return cases;
}

/** The scenarios that are for a batch. Throws SUITE_INVALID where none is. */
function scenariosFor({ scenarios, file }: Suite, batch: number): readonly Scenario[] {
  const found = scenarios.filter(({ batches }) => batches === undefined || batches.includes(batch));
  if (found.length === 0) {
    const known = [...new Set(scenarios.flatMap(({ batches = [] }) => batches))].sort((a, b) => a - b);
    throw new TsrtError('SUITE_INVALID', `none of the suite's scenarios is for batch ${batch}`, {
      place: file,
      fix: `choose among ${known.join(', ')} with --batch, or add ${batch} to a scenario's batches`,
    });
  }
  return found.map(({ name, streams, targetQps, transfers, maxQueueDelayMs }) => ({ name, streams, targetQps, transfers, ...(maxQueueDelayMs !== undefined && { maxQueueDelayMs }) }));
}

/** Variants under the suite's scenarios. Throws SUITE_INVALID where two of them would share an id, or a batch has no scenario. */
export function casesOf(suite: Suite, variants: readonly Variant[]): readonly Case[] {
  const cases = new Map<string, Case>();
  for (const variant of variants) {
    for (const full of scenariosFor(suite, variant.options.batch)) {
      const entry: Case = { id: `${variant.id}/b${variant.options.batch}/${scenarioId(full)}`, suite: suite.name, variant, scenario: full };
      const known = cases.get(entry.id);
      if (known && JSON.stringify(known) !== JSON.stringify(entry)) {
        throw new TsrtError('SUITE_INVALID', `two different cases have the id ${entry.id}`, {
          place: suite.file,
          fix: 'make the option values differ in letters or digits: an id keeps only those',
        });
      }
      cases.set(entry.id, entry);
    }
  }
  return [...cases.values()];
}

function expandAxes(suite: Suite, axes: VariantAxes, machine: Machine): Variant[] {
  const options = product(Object.entries(axes.backendOptions).sort(([a], [b]) => (a < b ? -1 : 1)));
  return axes.backend.flatMap((backend) =>
    axes.precision.flatMap((precision) =>
      axes.fusion.flatMap((fusion) =>
        options.flatMap((backendOptions) =>
          suite.batches.map((batch): Variant => {
            const build: BuildOptions = {
              backend,
              precision,
              fusion,
              batch,
              dims: suite.dims,
              inputShapes: suite.inputShapes,
              disabledPasses: axes.disabledPasses,
              workspaceBytes: axes.workspaceBytes,
              backendOptions: resolveOptions(backendOptions, machine),
            };
            return { id: variantId(build), options: build };
          }),
        ),
      ),
    ),
  );
}

function product(axes: readonly (readonly [string, readonly OptionValue[]])[]): Record<string, OptionValue>[] {
  return axes.reduce<Record<string, OptionValue>[]>(
    (rows, [key, values]) => rows.flatMap((row) => values.map((value) => ({ ...row, [key]: value }))),
    [{}],
  );
}

function resolveOptions(options: Readonly<Record<string, OptionValue>>, machine: Machine): Record<string, OptionValue> {
  return options['threads'] === 'all' ? { ...options, threads: machine.cores } : { ...options };
}

/** `onnxruntime/fp32/fusion-on/threads-2`: no batch, no scenario. */
export function variantId(options: Omit<BuildOptions, 'batch'>): string {
  const parts = [
    options.backend,
    options.precision,
    `fusion-${options.fusion}`,
    ...Object.entries(options.backendOptions)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => `${key}-${value}`),
    ...[...options.disabledPasses].sort().map((pass) => `without-${pass}`),
    ...(options.workspaceBytes === undefined ? [] : [`workspace-${options.workspaceBytes}`]),
  ];
  return parts.map((part) => part.replace(/[^A-Za-z0-9._-]+/g, '_')).join('/');
}

function scenarioId(scenario: Scenario): string {
  const streams = scenario.streams === 1 ? '' : `-${scenario.streams}`;
  const load = scenario.targetQps === undefined ? '' : `-${scenario.targetQps}qps`;
  const collected = scenario.maxQueueDelayMs === undefined ? '' : `-batching-${scenario.maxQueueDelayMs}ms`;
  return `${scenario.name}${streams}${load}${collected}${scenario.transfers ? '' : '-without-transfers'}`;
}

/** Whether a variant agrees with every field that the match gives. */
export function matchesVariant(match: VariantMatch, options: BuildOptions, machine: Machine): boolean {
  return (
    (match.backend === undefined || match.backend === options.backend) &&
    (match.precision === undefined || match.precision === options.precision) &&
    (match.fusion === undefined || match.fusion === options.fusion) &&
    (match.batch === undefined || match.batch === options.batch) &&
    Object.entries(resolveOptions(match.backendOptions ?? {}, machine)).every(([key, value]) => options.backendOptions[key] === value)
  );
}

/** What the suite's file says to no effect, as sentences: most often a slip, and no mistake, since machines differ in their cores. */
export function idleParts(suite: Suite, machine: Machine): readonly string[] {
  const variants = suite.variants.flatMap((axes) => expandAxes(suite, axes, machine));
  const excluded = suite.exclude.flatMap((match, index) =>
    variants.some(({ options }) => matchesVariant(match, options, machine)) ? [] : [`exclude[${index}] of the suite (${describeMatch(match)}) removes no variant`],
  );
  const scenarios = suite.scenarios.flatMap(({ name, batches }, index) =>
    batches === undefined || batches.some((batch) => suite.batches.includes(batch)) ? [] : [`scenarios[${index}] of the suite (${name}) is for batch ${batches.join(', ')}, but the suite has ${suite.batches.join(', ')}`],
  );
  return [...excluded, ...scenarios];
}

/** `backend onnxruntime, fusion off, threads 1`. */
function describeMatch({ backendOptions, ...fields }: VariantMatch): string {
  return Object.entries({ ...fields, ...backendOptions }).map(([key, value]) => `${key} ${value}`).join(', ') || 'any variant';
}

/** That another variant stands in for the one that speed-ups were to be stated against, as a sentence; undefined where none does. */
export function standInForBaseline(suite: Suite, measured: readonly Case[], machine: Machine): string | undefined {
  if (suite.baselineVariant === undefined || measured.length === 0 || measured.some((entry) => isBaseline(suite, entry, machine))) return undefined;
  return `the suite's baselineVariant (${describeMatch(suite.baselineVariant)}) has no result here: speed-ups are against ${measured[0]!.variant.id}`;
}

/** Id of the variant that speed-ups are stated against: the first of `cases` that matches, or the first of all. */
export function baselineVariantId(suite: Suite, cases: readonly Case[], machine: Machine): string | undefined {
  return (cases.find((entry) => isBaseline(suite, entry, machine)) ?? cases[0])?.variant.id;
}

/** Whether the suite names the case's variant as the one that speed-ups are stated against. */
export function isBaseline({ baselineVariant }: Suite, { variant }: Case, machine: Machine): boolean {
  return baselineVariant !== undefined && matchesVariant(baselineVariant, variant.options, machine);
}
