/** Checks what a plugin's module exports before any of it is used. */
import { z } from 'zod';
import { TsrtError } from './errors.ts';
import { DTYPES, type DType } from './ir/tensor.ts';
import { nearest } from './nearest.ts';
import { attributeFault } from './ops/custom.ts';
import type { AttributeSpec } from './ir/custom.ts';
import type { Plugin } from './plugin.ts';

const NAME = /^[a-z0-9][a-z0-9-]*$/;
const name = z.string().regex(NAME, 'lower-case letters, digits and dashes');
const named = { name: z.string().min(1), description: z.string() };
const fn = z.custom<(...parameters: unknown[]) => unknown>((value) => typeof value === 'function', 'expected a function');
const dtype = z.enum(DTYPES as unknown as readonly [DType, ...DType[]]);
const dtypes = z.array(dtype).min(1);
const range = z.tuple([z.number(), z.number()]).refine(([low, high]) => low <= high, 'the first must not be above the second');

const numeric = { min: z.number().optional(), max: z.number().optional(), description: z.string().optional() };
const attribute = z.discriminatedUnion('type', [
  z.strictObject({ type: z.enum(['int', 'float']), default: z.number().optional(), ...numeric }),
  z.strictObject({ type: z.literal('string'), default: z.string().optional(), choices: z.array(z.string()).min(1).optional(), description: z.string().optional() }),
  z.strictObject({ type: z.enum(['ints', 'floats']), default: z.array(z.number()).optional(), length: z.int().nonnegative().optional(), ...numeric }),
]);

/** A default that the schema itself would refuse from a model. */
const checkedAttribute = attribute.superRefine((spec, context) => {
  if (spec.default === undefined) return;
  const fault = attributeFault(spec as AttributeSpec, spec.default);
  if (fault !== undefined) context.addIssue({ code: 'custom', path: ['default'], message: `the schema asks for ${fault}, found ${JSON.stringify(spec.default)}` });
});

const input = z.strictObject({
  name: z.string().min(1),
  description: z.string().optional(),
  dtype: z.union([z.literal('T'), dtype]).optional(),
  dims: z.union([z.literal('any'), z.array(z.union([z.int().nonnegative(), z.string().min(1)]))]),
  optional: z.literal(true).optional(),
  values: range.optional(),
});

const kernel = z.strictObject({ dtypes, tiles: z.array(z.record(z.string(), z.number())).min(1).optional(), emit: fn });
const tolerance = z.strictObject({ ulps: z.number().nonnegative().optional(), absolute: z.number().nonnegative().optional(), relative: z.number().nonnegative().optional() });

const opSchema = z
  .strictObject({
    domain: z.string(),
    name: z.string().min(1),
    description: z.string().optional(),
    opset: range.optional(),
    dtypes,
    attributes: z.record(z.string(), checkedAttribute),
    inputs: z.array(input),
    outputs: z.array(z.string().min(1)).min(1),
    sizes: z.record(z.string(), z.union([range, fn])).optional(),
    infer: fn,
    reference: fn,
    decompose: fn.optional(),
    expression: fn.optional(),
    kernels: z.array(kernel).optional(),
    int8: z.strictObject({ inputs: z.array(z.int().nonnegative()).optional(), output: z.union([z.enum(['same', 'own']), fn]) }).optional(),
    patterns: z.array(z.strictObject({ name: z.string().min(1), match: z.looseObject({ kind: z.string() }), inputs: z.array(z.string()), attributes: fn.optional() })).optional(),
    flops: fn.optional(),
    tolerance: z.partialRecord(dtype, tolerance).optional(),
    nonFinite: z.enum(['propagates', 'unspecified']).optional(),
  })
  .refine((op) => op.expression === undefined || (op.outputs.length === 1 && op.inputs.every(({ optional }) => !optional)), {
    message: 'an op with an expression has one output and no optional inputs',
    path: ['expression'],
  });

const dataset = z
  .looseObject({ name, description: z.string(), images: fn.optional(), open: fn.optional() })
  .refine((source) => source.images !== undefined || source.open !== undefined, 'a dataset gives images() or open()');

const pluginSchema = z.strictObject({
  name,
  version: z.string().min(1),
  ops: z.array(opSchema).optional(),
  backends: z.array(z.looseObject({ ...named, probe: fn, supports: fn, build: fn, load: fn })).optional(),
  datasets: z.array(dataset).optional(),
  calibrators: z.array(z.strictObject({ name, description: z.string(), range: fn })).optional(),
  reporters: z.array(z.looseObject({ ...named, fileExtension: z.string(), render: fn })).optional(),
  suites: z.array(z.union([z.string().min(1), z.instanceof(URL)])).optional(),
});

/** Keys by the place they stand in, for "did you mean". */
function knownKeys(path: readonly PropertyKey[]): readonly string[] {
  if (path.length === 0) return Object.keys(pluginSchema.shape);
  if (path[0] !== 'ops') return [];
  if (path.length === 2) return Object.keys(opSchema.shape);
  if (path[2] === 'inputs') return Object.keys(input.shape);
  return path[2] === 'kernels' ? Object.keys(kernel.shape) : [];
}

/** The plugin in a module's default export, or PLUGIN_INVALID with every problem at once, under the plugin's name where it has one. */
export function parsePlugin(value: unknown, source: string): Plugin {
  const result = pluginSchema.safeParse(value);
  if (result.success) return value as Plugin;
  const details = result.error.issues.flatMap(describeIssue);
  const own = typeof value === 'object' && value !== null && 'name' in value && typeof value.name === 'string' ? value.name : undefined;
  throw new TsrtError('PLUGIN_INVALID', own === undefined ? 'the module does not export a plugin' : 'the plugin has mistakes', {
    plugin: own ?? source,
    place: source,
    details,
    fix: own === undefined ? "export default definePlugin({ name, version, … }) with definePlugin from 'tsrt-bench'" : 'mend the keys named above; docs/plugins.md has an example of every part',
  });
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const place = issue.path.length > 0 ? issue.path.join('.') : 'the default export';
  if (issue.code !== 'unrecognized_keys') return [`${place}: ${issue.message}`];
  const known = knownKeys(issue.path);
  return issue.keys.map((key) => {
    const guess = nearest(key, known);
    const where = issue.path.length > 0 ? `${place}.${key}` : key;
    return `${where}: unknown key${guess ? `; did you mean '${guess}'?` : known.length > 0 ? `; known: ${known.join(', ')}` : ''}`;
  });
}
