/**
 * What the harness and an outside program say to each other: one JSON object per line, requests on the program's stdin,
 * replies on its stdout, tensors in files. docs/external-protocol.md is the specification; this file is its schema.
 *
 * JSON lines because every language reads them; the language server protocol and pip's build backends are the prior art. Values
 * travel in raw files and not in lines, so that a large batch costs a write and not an encoding.
 */
import { z } from 'zod';
import type { ErrorCode } from '../../errors.ts';
import { DTYPES, type DType, type Tensor } from '../../ir/tensor.ts';

/** Raised when an older program or harness would misread a newer one. */
export const PROTOCOL_VERSION = 1;

/** What a program can do beyond load, run and dispose. */
export const CAPABILITIES = ['build', 'supports', 'execute', 'timing', 'profile', 'memory'] as const;
export type Capability = (typeof CAPABILITIES)[number];

export const REQUESTS = ['hello', 'probe', 'supports', 'build', 'load', 'run', 'prepare', 'execute', 'download', 'release', 'profile', 'memory', 'dispose'] as const;
export type RequestName = (typeof REQUESTS)[number];

/** A tensor in a file of the exchange folder, little-endian, row-major. */
export interface TensorFile extends Pick<Tensor, 'dtype' | 'dims'> {
  readonly name: string;
  /** Name of a file in the exchange folder. */
  readonly file: string;
}

const count = z.number().int().nonnegative();
const amount = z.number().nonnegative();
const fileName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'expected the name of a file in the exchange folder, without a path');
const dtype = z.enum(DTYPES as [DType, ...DType[]]);
const binding = { name: z.string(), dtype, dims: z.array(count) };
const tensorFile = z.strictObject({ ...binding, file: fileName });
const strings = z.record(z.string(), z.string());
const device = z.strictObject({
  slug: z.string().regex(/^[a-z0-9][a-z0-9-]*$/, 'expected lower-case letters, digits and dashes'),
  kind: z.enum(['cpu', 'gpu', 'fake']),
  description: z.string(),
  properties: strings.default({}),
});
const unsupported = z.strictObject({ node: z.string(), op: z.string(), reason: z.string() });
const ledger = z.strictObject({ weightBytes: count, activationBytes: count, workspaceBytes: count, stagingBytes: count });
const layer = z.strictObject({
  name: z.string(),
  kind: z.string(),
  precision: dtype,
  origins: z.array(z.string()).default([]),
  flops: amount.default(0),
  bytes: amount.default(0),
  tactic: z.string().exactOptional(),
});
/** Nanoseconds by the program's own clock, from the request's work to its end; transport and files are not in it. None at all is a clock that is too coarse, or another unit. */
const elapsedNs = z.number().positive().optional();

/** Bodies of the replies, by request. Any reply may also carry `deviceBytes`. */
export const REPLIES = {
  hello: z.strictObject({
    protocol: z.number().int(),
    name: z.string().min(1),
    version: z.string().min(1),
    capabilities: z.array(z.enum(CAPABILITIES)).default([]),
  }),
  probe: z.discriminatedUnion('status', [
    z.strictObject({ status: z.literal('available'), version: z.string(), devices: z.array(device) }),
    z.strictObject({ status: z.literal('unavailable'), reason: z.string(), fix: z.string() }),
  ]),
  supports: z.strictObject({ unsupported: z.array(unsupported) }),
  build: z.strictObject({
    parts: z.array(z.strictObject({ name: z.string().min(1), file: fileName })),
    layers: z.array(layer).optional(),
    memory: ledger.optional(),
    notices: z.array(z.string()).default([]),
    requires: strings.default({}),
    data: z.json().default(null),
  }),
  load: z.strictObject({ device, memory: ledger.optional() }),
  run: z.strictObject({ outputs: z.array(tensorFile), elapsedNs }),
  prepare: z.strictObject({ execution: count }),
  execute: z.strictObject({ elapsedNs }),
  download: z.strictObject({ outputs: z.array(tensorFile) }),
  release: z.strictObject({}),
  profile: z.strictObject({ layers: z.array(z.strictObject({ layer: z.string(), durationNs: amount })) }),
  memory: z.strictObject({}),
  dispose: z.strictObject({}),
} as const satisfies Record<RequestName, z.ZodType>;

export type ReplyBody<K extends RequestName> = z.infer<(typeof REPLIES)[K]>;

/** What a program may say went wrong, and how the harness reports it. */
export const FAILURES = {
  unsupported: 'MODEL_UNSUPPORTED',
  unavailable: 'BACKEND_UNAVAILABLE',
  'out-of-memory': 'OUT_OF_MEMORY',
  'device-lost': 'DEVICE_LOST',
  usage: 'USAGE',
  failed: 'BACKEND_FAILED',
} as const satisfies Record<string, ErrorCode>;

const failure = z.strictObject({
  code: z.enum(Object.keys(FAILURES) as [keyof typeof FAILURES, ...(keyof typeof FAILURES)[]]),
  message: z.string().min(1),
  fix: z.string().optional(),
  details: z.array(z.string()).default([]),
});

const progress = z.strictObject({ id: count, event: z.literal('progress'), step: z.string(), done: amount, total: amount });
const failed = z.strictObject({ id: count, ok: z.literal(false), error: failure });
const succeeded = z.looseObject({ id: count, ok: z.literal(true), deviceBytes: count.optional() });

/** One line of a program. */
export type Line =
  | z.infer<typeof progress>
  | z.infer<typeof failed>
  | { readonly id: number; readonly ok: true; readonly deviceBytes: number | undefined; readonly body: Readonly<Record<string, unknown>> };

/** Reads a line. Throws an Error that says what is wrong with it. */
export function parseLine(text: string): Line {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('it is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('it is not a JSON object');
  if ('event' in value) return check(progress, value);
  if ('ok' in value && value.ok === false) return check(failed, value);
  const { id, ok, deviceBytes, ...body } = check(succeeded, value);
  return { id, ok, deviceBytes, body };
}

/** The body of a reply to `request`. Throws an Error that says what is wrong with it. */
export function parseReply<K extends RequestName>(request: K, body: unknown): ReplyBody<K> {
  return check(REPLIES[request] as unknown as z.ZodType<ReplyBody<K>>, body);
}

function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new Error(result.error.issues.slice(0, 3).map((issue) => `${issue.path.join('.') || 'the reply'}: ${issue.message}`).join('; '));
}
