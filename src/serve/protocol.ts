/**
 * The Open Inference Protocol (KServe's predict v2) over HTTP, as bytes and tensors: requests read, answers written. Knows no server and no engine.
 *
 * Tensors are JSON, or bytes behind it by the binary tensor data extension, as Triton and its clients have it: the header
 * `Inference-Header-Content-Length` says where the JSON ends, `binary_data_size` how many bytes of the rest are an input's.
 *
 *     https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
 *     https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
 */
import { z } from 'zod';
import type { TensorMap } from '../backends/backend.ts';
import type { Binding } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import type { Tensor } from '../ir/tensor.ts';
import { validate } from '../suite/validate.ts';
import { DATATYPES, datatypeOf, dtypeOf, jsonOfTensor, tensorOfJson } from './datatypes.ts';

/** Where the JSON part of a body ends; on requests and on answers. */
export const HEADER_LENGTH = 'inference-header-content-length';

/** An output that was asked for. */
export interface WantedOutput {
  readonly name: string;
  /** As bytes behind the JSON; as numbers in it otherwise. */
  readonly binary: boolean;
}

/** A request to compute. */
export interface InferRequest {
  /** Goes back with the answer. */
  readonly id: string | undefined;
  /** Tensors may be views of the body. What fits an engine is not decided here. */
  readonly inputs: TensorMap;
  /** In this order; undefined: all. */
  readonly outputs: readonly WantedOutput[] | undefined;
  /** Of outputs that are not named. */
  readonly binary: boolean;
}

/** An answer as HTTP takes it. */
export interface EncodedAnswer {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
}

/** More axes than any tensor has; nested arrays are as deep. */
const MAX_AXES = 64;

const absent = (what: string) => z.undefined({ error: `${what} is not supported` }).optional();
const count = z.number().int().nonnegative();

/** Keys that it does not know are other extensions' and mean nothing here; those that would change an answer are refused. */
const requestSchema = z.object({
  id: z.string().optional(),
  parameters: z.object({ binary_data_output: z.boolean().optional() }).optional(),
  inputs: z.array(
    z.object({
      name: z.string(),
      shape: z.array(count).max(MAX_AXES),
      datatype: z.enum(DATATYPES),
      parameters: z.object({ binary_data_size: count.optional(), shared_memory_region: absent('shared memory') }).optional(),
      data: z.unknown().optional(),
    }),
  ),
  outputs: z
    .array(
      z.object({
        name: z.string(),
        parameters: z.object({ binary_data: z.boolean().optional(), classification: absent('classification'), shared_memory_region: absent('shared memory') }).optional(),
      }),
    )
    .optional(),
});

type RequestHeader = z.infer<typeof requestSchema>;

/** Reads a body, whose JSON ends after `headerLength` bytes; undefined: all of it is JSON. Throws TsrtError USAGE for anything that is no request. */
export function parseRequest(body: Uint8Array, headerLength: number | undefined): InferRequest {
  if (headerLength !== undefined && headerLength > body.byteLength) {
    throw new TsrtError('USAGE', `${HEADER_LENGTH}: the JSON should have ${headerLength} bytes, but the body has ${body.byteLength}`);
  }
  const end = headerLength ?? body.byteLength;
  const header = readHeader(body.subarray(0, end));
  const binary = header.parameters?.binary_data_output ?? false;
  const outputs = header.outputs?.map(({ name, parameters }) => ({ name, binary: parameters?.binary_data ?? binary }));
  refuseTwice('output', outputs ?? []);
  return { id: header.id, inputs: readInputs(header.inputs, body.subarray(end)), outputs: outputs?.length === 0 ? undefined : outputs, binary };
}

/** What the header of a request says of its JSON's length. Throws TsrtError USAGE for what is no length. */
export function parseHeaderLength(text: string | undefined): number | undefined {
  if (text === undefined || /^\d{1,15}$/.test(text)) return text === undefined ? undefined : Number(text);
  throw new TsrtError('USAGE', `${HEADER_LENGTH}: expected a number of bytes, found '${text}'`);
}

function readHeader(bytes: Uint8Array): RequestHeader {
  const valid = validate(requestSchema, parseJson(bytes));
  if (valid.ok) return valid.value;
  throw new TsrtError('USAGE', 'the request does not follow the protocol', { details: valid.mistakes });
}

function parseJson(bytes: Uint8Array): unknown {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new TsrtError('USAGE', `the request is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new TsrtError('USAGE', 'the request is not a JSON object');
}

function readInputs(inputs: RequestHeader['inputs'], rest: Uint8Array): TensorMap {
  refuseTwice('input', inputs);
  let at = 0;
  const tensors = inputs.map(({ name, shape: dims, datatype, parameters, data }): [string, Tensor] => {
    const dtype = dtypeOf(datatype);
    const size = parameters?.binary_data_size;
    if ((size === undefined) === (data === undefined)) throw new TsrtError('USAGE', `${name}: expected either data or parameters.binary_data_size, found ${size === undefined ? 'neither' : 'both'}`);
    if (size === undefined) return [name, tensorOfJson(name, dtype, dims, data)];
    const bytes = rest.subarray(at, at + size);
    if (bytes.byteLength < size) throw new TsrtError('USAGE', `${name}: ${size} bytes are announced, but ${bytes.byteLength} follow the JSON`, { fix: `give the length of the JSON in the header ${HEADER_LENGTH}` });
    at += size;
    return [name, { dtype, dims, data: bytes }];
  });
  if (at < rest.byteLength) throw new TsrtError('USAGE', `${rest.byteLength - at} bytes follow the last input`);
  return Object.fromEntries(tensors);
}

function refuseTwice(what: string, named: readonly { readonly name: string }[]): void {
  const seen = new Set<string>();
  for (const { name } of named) {
    if (seen.has(name)) throw new TsrtError('USAGE', `${name}: the ${what} is given twice`);
    seen.add(name);
  }
}

/** Which of an engine's outputs a request wants, and how. Throws TsrtError USAGE for one that there is not. */
export function wantedOutputs({ outputs, binary }: Pick<InferRequest, 'outputs' | 'binary'>, bindings: readonly Binding[]): readonly WantedOutput[] {
  const names = bindings.map(({ name }) => name);
  const unknown = outputs?.find(({ name }) => !names.includes(name));
  if (unknown) throw new TsrtError('USAGE', `${unknown.name}: no such output`, { fix: `The engine gives ${names.join(', ')}.` });
  return outputs ?? names.map((name) => ({ name, binary }));
}

/** The answer of `model`. Throws TsrtError USAGE for numbers that JSON can't say. */
export function encodeAnswer(model: string, { id }: Pick<InferRequest, 'id'>, wanted: readonly WantedOutput[], tensors: TensorMap): EncodedAnswer {
  const bytes: Uint8Array[] = [];
  const outputs = wanted.map(({ name, binary }) => {
    const tensor = tensors[name]!;
    const head = `"name":${JSON.stringify(name)},"shape":[${tensor.dims.join(',')}],"datatype":"${datatypeOf(tensor.dtype)}"`;
    if (!binary) return `{${head},"data":${jsonOfTensor(name, tensor)}}`;
    bytes.push(tensor.data);
    return `{${head},"parameters":{"binary_data_size":${tensor.data.byteLength}}}`;
  });
  const json = `{"model_name":${JSON.stringify(model)}${id === undefined ? '' : `,"id":${JSON.stringify(id)}`},"outputs":[${outputs.join(',')}]}`;
  if (bytes.length === 0) return { headers: { 'content-type': 'application/json' }, body: json };
  const header = Buffer.from(json);
  return { headers: { 'content-type': 'application/octet-stream', [HEADER_LENGTH]: String(header.byteLength) }, body: Buffer.concat([header, ...bytes]) };
}

/** A model's inputs or outputs, as its metadata tells them; -1 is an axis of any length within what the engines take. */
export function metadataOf(bindings: readonly Binding[], isBatched: boolean): readonly { readonly name: string; readonly datatype: string | undefined; readonly shape: readonly number[] }[] {
  return bindings.map(({ name, dtype, dims, dynamic }) => ({ name, datatype: datatypeOf(dtype), shape: dynamic ? dims.map(() => -1) : isBatched ? [-1, ...dims.slice(1)] : dims }));
}

/** The words of an error, on one line. */
export function errorText({ message, details, fix }: TsrtError): string {
  return `${message}${details.length > 0 ? `: ${details.join('; ')}` : ''}${fix === undefined ? '' : ` (${fix.replace(/\.$/, '')})`}`;
}
