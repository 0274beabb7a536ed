/** Checks what a plugin's module exports before any of it is used. */
import { z } from 'zod';
import type { Backend } from './backends/backend.ts';
import { TsrtError } from './errors.ts';
import { DTYPES, type DType } from './ir/tensor.ts';
import { nearest } from './nearest.ts';
import { attributeFault } from './ops/custom.ts';
import { opFaults } from './ops/custom-faults.ts';
import type { AttributeSpec, CustomOp } from './ir/custom.ts';
import type { Plugin } from './plugin.ts';
import type { Reporter } from './report/reporter.ts';
import type { DatasetSource } from './suite/source.ts';

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
  dims: z.union([z.literal('any'), z.array(z.union([z.int().nonnegative(), z.string().min(1)]))], "expected 'any', or a list of sizes and names of sizes"),
  optional: z.literal(true).optional(),
  values: range.optional(),
});

const int8 = z.strictObject({ inputs: z.array(z.int().nonnegative()).optional(), output: z.union([z.enum(['same', 'own']), fn], "expected 'same', 'own' or a function of { attrs, inputs }") });
const pattern = z.strictObject({ name: z.string().min(1), match: z.looseObject({ kind: z.string() }), inputs: z.array(z.string()), attributes: fn.optional() });
const kernel = z.strictObject({ dtypes, tiles: z.array(z.record(z.string(), z.number())).min(1).optional(), scratch: fn.optional(), emit: fn });
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
    sizes: z.record(z.string(), z.union([range, fn], 'expected [smallest, largest], or a function of the sizes before it and the attributes')).optional(),
    infer: fn,
    reference: fn,
    decompose: fn.optional(),
    expression: fn.optional(),
    kernels: z.array(kernel).optional(),
    int8: int8.optional(),
    patterns: z.array(pattern).optional(),
    flops: fn.optional(),
    tolerance: z.partialRecord(dtype, tolerance).optional(),
    nonFinite: z.enum(['propagates', 'unspecified']).optional(),
  })
  .superRefine((op, context) => {
    for (const { path, message } of opFaults(op as unknown as CustomOp)) context.addIssue({ code: 'custom', path: [...path], message });
  })
  .refine((op) => op.expression === undefined || (op.outputs.length === 1 && op.inputs.every(({ optional }) => !optional)), {
    message: 'an op with an expression has one output and no optional inputs',
    path: ['expression'],
  });

/** Parts that may be objects of a class, with fields of its own; of plain ones, all keys are known. */
const PART_KEYS = {
  backends: ['name', 'description', 'options', 'probe', 'supports', 'build', 'load', 'reference', 'compilesAtLoad', 'workerEnvironment'] satisfies readonly (keyof Backend)[],
  datasets: ['name', 'description', 'images', 'open'] satisfies readonly (keyof DatasetSource)[],
  reporters: ['name', 'description', 'fileExtension', 'render'] satisfies readonly (keyof Reporter)[],
} as const;

function part<T extends z.ZodRawShape>(kind: keyof typeof PART_KEYS, shape: T) {
  return z.looseObject(shape).superRefine((value, context) => {
    if (Object.getPrototypeOf(value) !== Object.prototype) return;
    const keys = Object.keys(value).filter((key) => !(PART_KEYS[kind] as readonly string[]).includes(key));
    if (keys.length > 0) context.addIssue({ code: 'unrecognized_keys', keys, input: value });
  });
}

const dataset = part('datasets', { name, description: z.string(), images: fn.optional(), open: fn.optional() })
  .refine((source) => source.images !== undefined || source.open !== undefined, 'a dataset gives images() or open()');

const calibrator = z.strictObject({ name, description: z.string(), range: fn });

const pluginSchema = z.strictObject({
  name,
  version: z.string().min(1),
  ops: z.array(opSchema).optional(),
  backends: z.array(part('backends', { ...named, probe: fn, supports: fn, build: fn, load: fn, compilesAtLoad: z.boolean().optional() })).optional(),
  datasets: z.array(dataset).optional(),
  calibrators: z.array(calibrator).optional(),
  reporters: z.array(part('reporters', { ...named, fileExtension: z.string(), render: fn })).optional(),
  suites: z.array(z.union([z.string().min(1), z.instanceof(URL)])).optional(),
});

/** Keys by the place they stand in, for "did you mean": of the plugin, of a part, of a part of an op. */
function knownKeys([kind, index, field, at]: readonly PropertyKey[], value: unknown): readonly string[] {
  if (kind === undefined) return Object.keys(pluginSchema.shape);
  if (Object.hasOwn(PART_KEYS, kind)) return PART_KEYS[kind as keyof typeof PART_KEYS];
  const schemas = { ops: opSchema, calibrators: calibrator, inputs: input, kernels: kernel, patterns: pattern, int8, tolerance } as const;
  if (field === 'attributes' && at !== undefined) return attributeKeys((value as { ops?: Record<PropertyKey, CustomOp> }).ops?.[index!]?.attributes[String(at)]?.type);
  const schema = schemas[(field ?? kind) as keyof typeof schemas] as z.ZodObject | undefined;
  return schema === undefined ? [] : Object.keys(schema.shape);
}

function attributeKeys(type: string | undefined): readonly string[] {
  const option = attribute.options.find(({ shape }) => 'values' in shape.type ? [...shape.type.values].includes(type as never) : shape.type.options.includes(type as never));
  return option ? Object.keys(option.shape) : [];
}

/** The plugin in a module's default export, or PLUGIN_INVALID with every problem at once, under the plugin's name where it has one. */
export function parsePlugin(value: unknown, source: string): Plugin {
  const result = pluginSchema.safeParse(value);
  if (result.success) return value as Plugin;
  const details = result.error.issues.flatMap((issue) => describeIssue(issue, value));
  const own = typeof value === 'object' && value !== null && 'name' in value && typeof value.name === 'string' ? value.name : undefined;
  throw new TsrtError('PLUGIN_INVALID', own === undefined ? 'the module does not export a plugin' : 'the plugin has mistakes', {
    plugin: own ?? source,
    place: source,
    details,
    fix: own === undefined ? "export default definePlugin({ name, version, … }) with definePlugin from 'tsrt-bench'" : 'mend the keys named above; docs/plugins.md has an example of every part',
  });
}

function describeIssue(issue: z.core.$ZodIssue, value: unknown): string[] {
  const place = issue.path.length > 0 ? issue.path.join('.') : 'the default export';
  if (issue.code !== 'unrecognized_keys') return [`${place}: ${issue.message}`];
  const known = knownKeys(issue.path, value);
  return issue.keys.map((key) => {
    const guess = nearest(key, known);
    const where = issue.path.length > 0 ? `${place}.${key}` : key;
    return `${where}: unknown key${guess ? `; did you mean '${guess}'?` : known.length > 0 ? `; known: ${known.join(', ')}` : ''}`;
  });
}
