/**
 * Writes ONNX models with a symbolic batch, one initializer at a time: a model larger than memory's comfort is never held
 * whole. (The project's own IR has static shapes, so that its exporter cannot write these.)
 *
 * Protocol buffers need the length of a message before its bytes. Names and shapes give every length beforehand, and the
 * fields of a message may come in any order, so the initializers are put last and streamed.
 */
import type { onnx as Onnx } from 'onnx-proto';
import { onnx } from '../../onnx/proto.ts';
import { randomNormal, streamKey } from '../random.ts';

/** Last opset without the ops that exporters rarely write yet; has LayerNormalization. */
const OPSET = 17;
const IR_VERSION = 8;
const ONNX_TYPES = { float32: 1, int64: 7 } as const;
export type WeightType = keyof typeof ONNX_TYPES;

/** A symbolic dimension is a string. */
export type SymbolicDims = readonly (number | string)[];

/** A weight whose bytes are made when they are written. */
export interface Initializer {
  readonly name: string;
  readonly dtype: WeightType;
  readonly dims: readonly number[];
  fill(): Uint8Array;
}

/** A model ready to be written. */
export interface OnnxPlan {
  readonly byteLength: number;
  readonly initializers: readonly Initializer[];
  /** The file, piece by piece. */
  chunks(): Iterable<Uint8Array>;
}

export type Attribute = number | string | readonly number[] | { readonly float: number };

export interface NodeOptions {
  readonly name?: string;
  /** Of an op of a plugin; default: ONNX's own. */
  readonly domain?: string;
  readonly attrs?: Readonly<Record<string, Attribute>>;
}

/** Collects nodes and weights in order; every method returns the name of the value it makes. */
export interface OnnxWriter {
  input(name: string, dtype: WeightType, dims: SymbolicDims): string;
  node(op: string, inputs: readonly string[], options?: NodeOptions): string;
  /** Nearly normal weights with mean 0 and the given standard deviation; `centred`: each slice of the first axis sums to 0. */
  normal(name: string, dims: readonly number[], std: number, centred?: 'centred'): string;
  /** Float weights from a function of the element index and the weight's own random stream. */
  weight(name: string, dims: readonly number[], value: (index: number, key: number) => number): string;
  ints(name: string, dims: readonly number[], values: readonly number[]): string;
  output(value: string, name: string, dims: SymbolicDims): void;
  finish(): OnnxPlan;
}

/** `opset` is ONNX's own; an op of a newer one needs it. */
export function createOnnxWriter(graphName: string, seed: number, opset: number = OPSET): OnnxWriter {
  const nodes: Onnx.INodeProto[] = [];
  const inputs: Onnx.IValueInfoProto[] = [];
  const outputs: Onnx.IValueInfoProto[] = [];
  const initializers = new Map<string, Initializer>();

  const add = (initializer: Initializer): string => {
    initializers.set(initializer.name, initializer);
    return initializer.name;
  };
  const floats = (name: string, dims: readonly number[], fill: (values: Float32Array, key: number) => void): string =>
    add({
      name,
      dtype: 'float32',
      dims,
      fill() {
        const values = new Float32Array(product(dims));
        fill(values, streamKey(seed, name));
        return new Uint8Array(values.buffer);
      },
    });

  return {
    input(name, dtype, dims) {
      inputs.push(valueInfo(name, dtype, dims));
      return name;
    },
    node(op, nodeInputs, options = {}) {
      const name = options.name ?? `${op}_${nodes.length}`;
      const output = `${name}_output`;
      const attribute = Object.entries(options.attrs ?? {}).map(([key, value]) => attributeProto(key, value));
      nodes.push({ opType: op, name, input: [...nodeInputs], output: [output], attribute, ...(options.domain !== undefined && { domain: options.domain }) });
      return output;
    },
    normal: (name, dims, std, centred) =>
      floats(name, dims, (values, key) => {
        for (let i = 0; i < values.length; i++) values[i] = std * randomNormal(key, i);
        if (centred) centre(values, values.length / dims[0]!);
      }),
    weight: (name, dims, value) =>
      floats(name, dims, (values, key) => {
        for (let i = 0; i < values.length; i++) values[i] = value(i, key);
      }),
    ints: (name, dims, values) => add({ name, dtype: 'int64', dims, fill: () => new Uint8Array(BigInt64Array.from(values, BigInt).buffer) }),
    output(value, name, dims) {
      outputs.push(valueInfo(name, 'float32', dims));
      const producer = nodes.find((node) => node.output?.[0] === value);
      if (!producer) throw new Error(`no node gives ${value}`);
      // Renames the value where it is made and read, so that no Identity is left in the graph.
      for (const node of nodes) node.input = node.input?.map((input) => (input === value ? name : input)) ?? [];
      producer.output = [name];
    },
    finish: () => plan({ name: graphName, node: nodes, input: inputs, output: outputs }, [...initializers.values()], opset),
  };
}

/** Takes its mean from each run of `length` values. */
function centre(values: Float32Array, length: number): void {
  for (let start = 0; start < values.length; start += length) {
    const row = values.subarray(start, start + length);
    const mean = row.reduce((sum, value) => sum + value, 0) / length;
    for (let i = 0; i < length; i++) row[i]! -= mean;
  }
}

function valueInfo(name: string, dtype: WeightType, dims: SymbolicDims): Onnx.IValueInfoProto {
  const dim = dims.map((size) => (typeof size === 'string' ? { dimParam: size } : { dimValue: size }));
  return { name, type: { tensorType: { elemType: ONNX_TYPES[dtype], shape: { dim } } } };
}

function attributeProto(name: string, value: Attribute): Onnx.IAttributeProto {
  const { AttributeType } = onnx.AttributeProto;
  if (typeof value === 'number') return { name, type: AttributeType.INT, i: value };
  if (typeof value === 'string') return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if ('float' in value) return { name, type: AttributeType.FLOAT, f: value.float };
  return { name, type: AttributeType.INTS, ints: [...value] };
}

// Field numbers of onnx.proto3; all of them are length-delimited (wire type 2).
const MODEL_GRAPH = tag(7);
const GRAPH_INITIALIZER = tag(5);
const TENSOR_RAW_DATA = tag(9);

function plan(graph: Onnx.IGraphProto, initializers: readonly Initializer[], opset: number): OnnxPlan {
  const foreign = [...new Set(graph.node?.flatMap(({ domain }) => domain || []))].map((domain) => ({ domain, version: 1 }));
  const model = onnx.ModelProto.encode({
    irVersion: IR_VERSION,
    producerName: 'tsrt-bench',
    opsetImport: [{ domain: '', version: opset }, ...foreign],
  }).finish();
  const body = onnx.GraphProto.encode(graph).finish();
  const parts = initializers.map((initializer) => {
    const { name, dims, dtype } = initializer;
    const dataBytes = product(dims) * (dtype === 'int64' ? 8 : 4);
    const header = onnx.TensorProto.encode({ name, dims: [...dims], dataType: ONNX_TYPES[dtype] }).finish();
    const prefix = concat([header, TENSOR_RAW_DATA, varint(dataBytes)]);
    return { initializer, dataBytes, head: concat([GRAPH_INITIALIZER, varint(prefix.length + dataBytes), prefix]) };
  });
  const graphBytes = parts.reduce((sum, part) => sum + part.head.length + part.dataBytes, body.length);
  const start = concat([model, MODEL_GRAPH, varint(graphBytes), body]);
  return {
    byteLength: start.length - body.length + graphBytes,
    initializers,
    *chunks() {
      yield start;
      for (const part of parts) {
        yield part.head;
        const data = part.initializer.fill();
        if (data.byteLength !== part.dataBytes) throw new Error(`${part.initializer.name} has ${data.byteLength} bytes, not ${part.dataBytes}`);
        yield data;
      }
    },
  };
}

function tag(field: number): Uint8Array {
  return varint((field << 3) | 2);
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return Uint8Array.of(...bytes, rest);
}

export function concat(chunks: readonly Uint8Array[]): Uint8Array {
  const result = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    result.set(chunk, offset);
    offset += chunk.length;
  }
  return result;
}

function product(dims: readonly number[]): number {
  return dims.reduce((count, dim) => count * dim, 1);
}
