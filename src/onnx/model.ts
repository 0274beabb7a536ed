/**
 * The validated view of an ONNX file: plain data, every name resolved, every weight checked against its type.
 *
 * The format is onnx.proto3 (https://github.com/onnx/onnx/blob/main/docs/IR.md). Decoding is protobufjs through onnx-proto;
 * nothing in the file is trusted. A file that is wrong gives one TsrtError MODEL_INVALID; one that is right and uses what
 * the IR can't hold is read in full, so that the importer can list all of it.
 */
import type { onnx as Onnx } from 'onnx-proto';
import { TsrtError } from '../errors.ts';
import { decodeAttributes } from './attribute.ts';
import { elementName } from './dtype.ts';
import { externalReader, type ExternalReader } from './external.ts';
import { readFunctionDefaults, type FunctionDefaults } from './functiondefaults.ts';
import { toInteger } from './integers.ts';
import { invalid, quote } from './invalid.ts';
import { nodePlace, orderNodes } from './order.ts';
import { onnx } from './proto.ts';
import { boundedReader } from './reader.ts';
import { sniffForeign } from './sniff.ts';
import { decodeTensor, MAX_ELEMENTS } from './tensor.ts';
import type { OnnxAttribute, TensorValue } from './value.ts';
import type { DType } from '../ir/tensor.ts';
import { dtypeOfOnnx } from '../ops/specs.ts';

type Proto = typeof onnx;
type ModelProto = InstanceType<Proto['ModelProto']>;
type GraphProto = Onnx.IGraphProto;
type NodeProto = Onnx.INodeProto;
type ValueInfoProto = Onnx.IValueInfoProto;

/** A dimension of a declared type: a size, or the name of a symbol; `''` for one that the model leaves open. */
export type OnnxDim = number | string;

/** A declared type: a tensor (`dims` undefined: rank unknown; `dtype` undefined: a type named by `dtypeName` only), or other. */
export type OnnxType =
  | { readonly kind: 'tensor'; readonly dtype: DType | undefined; readonly dtypeName: string; readonly dims: readonly OnnxDim[] | undefined }
  | { readonly kind: 'other'; readonly what: 'sequence' | 'optional' | 'map' | 'sparse tensor' | 'untyped' };

export interface OnnxValue {
  readonly name: string;
  readonly type: OnnxType;
}

export interface OnnxNode {
  /** May be empty, and need not be unique. */
  readonly name: string;
  readonly opType: string;
  /** `''` for ONNX's own, also where the file says `ai.onnx`. */
  readonly domain: string;
  /** Version of the domain's operator set that the node is written in. */
  readonly opset: number;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, OnnxAttribute>;
  /** Of an If: what it computes either way. */
  readonly branches?: { readonly yes: OnnxBranch; readonly no: OnnxBranch };
  /** Of a Loop or a Scan: what it computes each time. */
  readonly body?: OnnxBranch;
}

/** A graph inside a node. It also reads values of the graphs around it, by their names. */
export interface OnnxBranch {
  /** None of an If. */
  readonly inputs: readonly string[];
  readonly nodes: readonly OnnxNode[];
  readonly initializers: ReadonlyMap<string, TensorValue>;
  readonly outputs: readonly string[];
}

/** A model-local function: a node of this domain and name stands for the body. */
export interface OnnxFunction {
  readonly name: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly defaults: ReadonlyMap<string, OnnxAttribute>;
  readonly nodes: readonly OnnxNode[];
}

export interface OnnxModel {
  /** The graph's name. */
  readonly name: string;
  readonly irVersion: number;
  readonly producer: string;
  /** Operator set version by domain, ONNX's own under `''`. */
  readonly opsets: ReadonlyMap<string, number>;
  /** Inputs that a caller gives: those that initializers don't. */
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  /** Declared types of values inside the graph. */
  readonly valueInfo: ReadonlyMap<string, OnnxType>;
  readonly initializers: ReadonlyMap<string, TensorValue>;
  /** In topological order. */
  readonly nodes: readonly OnnxNode[];
  readonly functions: readonly OnnxFunction[];
}

export interface ReadOptions {
  /** The model file's folder, where external data lies. */
  readonly folder?: string | undefined;
}

/** What decoding a graph needs to know of the file around it. */
interface Context {
  readonly opsets: ReadonlyMap<string, number>;
  readonly functionKeys: ReadonlySet<string>;
  readonly external: ExternalReader;
  /** How many graphs this one is inside of. */
  readonly depth?: number;
}

/** Graphs nested deeper are not read: their node stays control flow. */
const MAX_DEPTH = 16;

/** The model that the bytes hold. Tensors are views of the bytes. Throws TsrtError MODEL_INVALID, and nothing else. */
export function readModel(bytes: Uint8Array, options: ReadOptions = {}): OnnxModel {
  if (bytes.length === 0) throw invalid('the model file is empty', 'file', 'give the .onnx file');
  const foreign = sniffForeign(bytes);
  if (foreign) throw invalid(`the file is not an ONNX model: it looks like ${foreign.what}`, 'file', foreign.fix);
  const { proto, functionDefaults } = decodeModel(bytes);
  if (!proto.graph) throw invalid('the file holds no graph, so it is not an ONNX model', 'file', 'give the .onnx file');
  const irVersion = toInteger(proto.irVersion, 'irVersion');
  if (irVersion < 1 || irVersion > 1000) throw invalid(`the file says IR version ${irVersion}, so it is not an ONNX model`, 'irVersion');
  const external = externalReader(options.folder);
  const opsets = decodeOpsets(proto.opsetImport, irVersion, 'opsetImport');
  const functionKeys = new Set(proto.functions.map((fn) => functionKey(domainOf(fn.domain), fn.name ?? '')));
  const functions = decodeFunctions(proto, functionDefaults, { opsets, functionKeys, external });
  const graph = decodeGraph(proto.graph, { opsets, functionKeys, external });
  return { irVersion, producer: `${proto.producerName} ${proto.producerVersion}`.trim(), opsets, functions, ...graph };
}

/** How functions are found: by domain and name. */
export function functionKey(domain: string, name: string): string {
  return `${domain}\0${name}`;
}

function decodeModel(bytes: Uint8Array): { readonly proto: ModelProto; readonly functionDefaults: FunctionDefaults } {
  try {
    const proto = onnx.ModelProto.decode(boundedReader(bytes));
    return { proto, functionDefaults: proto.functions.length > 0 ? readFunctionDefaults(bytes) : [] };
  } catch (error) {
    if (error instanceof TsrtError) throw error;
    // protobufjs decodes nested messages by recursion: a file nested deep enough ends its stack, a wrong length its buffer.
    const nested = error instanceof RangeError && /call stack/.test(error.message);
    const what = nested ? 'messages are nested too deeply' : 'it is cut short or damaged';
    throw invalid(`the file can't be read as an ONNX model: ${what}`, 'file', 'compare its size and checksum with the source, and copy or download it again');
  }
}

function decodeOpsets(imports: ModelProto['opsetImport'], irVersion: number, place: string): Map<string, number> {
  const opsets = new Map<string, number>();
  for (const item of imports) {
    const domain = domainOf(item.domain);
    const version = toInteger(item.version, place);
    if (version < 1 || version > 10_000) throw invalid(`the operator set ${quote(domain || 'ai.onnx')} has version ${version}`, place);
    if ((opsets.get(domain) ?? version) !== version) throw invalid(`the operator set ${quote(domain || 'ai.onnx')} is imported in two versions`, place);
    opsets.set(domain, version);
  }
  // Before IR version 3 there was one operator set.
  if (opsets.size === 0 && irVersion < 3) opsets.set('', 1);
  if (opsets.size === 0) throw invalid('the model imports no operator set', place);
  return opsets;
}

function decodeGraph(graph: GraphProto, context: Context): Omit<OnnxModel, 'irVersion' | 'producer' | 'opsets' | 'functions'> {
  const initializers = decodeInitializers(graph, context);
  for (const sparse of graph.sparseInitializer ?? []) {
    const name = sparse.values?.name ?? '';
    if (name === '' || initializers.has(name)) throw invalid('a sparse initializer has no name of its own', 'sparse initializers');
    initializers.set(name, { kind: 'unsupported', dtype: 'sparse tensor', dims: [] });
  }
  const declared = decodeValues(graph.input ?? [], 'input');
  // Initializers listed as inputs are defaults that a caller could replace; here they are constants.
  const inputs = declared.filter((input) => !initializers.has(input.name));
  const outputs = decodeValues(graph.output ?? [], 'output');
  if (outputs.length === 0) throw invalid('the graph has no outputs', 'graph');
  const given = new Set([...initializers.keys(), ...inputs.map((input) => input.name)]);
  const nodes = orderNodes(decodeNodes(graph.node ?? [], 'graph', context), given, 'graph');
  const known = new Set([...given, ...nodes.flatMap((node) => node.outputs)]);
  for (const output of outputs) {
    if (!known.has(output.name)) throw invalid(`nothing produces the output ${quote(output.name)}`, 'graph');
  }
  const valueInfo = new Map([...decodeValues(graph.valueInfo ?? [], 'value'), ...outputs].map((value) => [value.name, value.type]));
  return { name: graph.name ?? '', inputs, outputs, valueInfo, initializers, nodes };
}

function decodeInitializers(graph: GraphProto, { external }: Context): Map<string, TensorValue> {
  const initializers = new Map<string, TensorValue>();
  for (const [index, tensor] of (graph.initializer ?? []).entries()) {
    const name = tensor.name ?? '';
    const place = name === '' ? `initializer ${index}` : `initializer ${quote(name)}`;
    if (name === '') throw invalid('an initializer has no name', place);
    if (initializers.has(name)) throw invalid(`there are two initializers ${quote(name)}`, place);
    initializers.set(name, decodeTensor(tensor, place, external));
  }
  return initializers;
}

function decodeNodes(protos: readonly NodeProto[], place: string, context: Context): OnnxNode[] {
  return protos.map((proto, index) => {
    const opType = proto.opType ?? '';
    const name = proto.name ?? '';
    const where = `${place}, ${nodePlace({ name, opType }, index)}`;
    if (opType === '') throw invalid('a node has no op type', where);
    const domain = domainOf(proto.domain);
    const opset = context.opsets.get(domain);
    if (opset === undefined && !context.functionKeys.has(functionKey(domain, opType))) {
      throw invalid(`a node uses the operator set ${quote(domain || 'ai.onnx')}, which the model does not import`, where);
    }
    const attributes = decodeAttributes(opType, proto.attribute ?? [], where, context.external);
    const node = { name, opType, domain, opset: opset ?? 1, inputs: proto.input ?? [], outputs: proto.output ?? [], attributes };
    return { ...node, ...(domain === '' && decodeInner(proto, opType, where, context)) };
  });
}

/** The graphs inside of an If, a Loop or a Scan; none where one is missing, or is more than nodes and tensors. */
function decodeInner(proto: NodeProto, opType: string, place: string, context: Context): Pick<OnnxNode, 'branches' | 'body'> {
  if ((context.depth ?? 0) >= MAX_DEPTH) return {};
  if (opType === 'Loop' || opType === 'Scan') {
    const body = decodeBranch(proto, 'body', place, context);
    return body ? { body } : {};
  }
  if (opType !== 'If') return {};
  const [yes, no] = [decodeBranch(proto, 'then_branch', place, context), decodeBranch(proto, 'else_branch', place, context)];
  return yes && no && yes.inputs.length + no.inputs.length === 0 ? { branches: { yes, no } } : {};
}

function decodeBranch(proto: NodeProto, name: string, place: string, context: Context): OnnxBranch | undefined {
  const graph = proto.attribute?.find((attribute) => attribute.name === name)?.g;
  if (!graph || (graph.sparseInitializer ?? []).length > 0) return undefined;
  const inner = { ...context, depth: (context.depth ?? 0) + 1 };
  const nodes = decodeNodes(graph.node ?? [], `${place}, ${name}`, inner);
  const namesOf = (values: readonly ValueInfoProto[] | null | undefined): string[] => (values ?? []).map((value) => value.name ?? '');
  return { inputs: namesOf(graph.input), nodes, initializers: decodeInitializers(graph, inner), outputs: namesOf(graph.output) };
}

function decodeFunctions(model: ModelProto, defaults: FunctionDefaults, context: Context): OnnxFunction[] {
  const seen = new Set<string>();
  return model.functions.map((proto, index) => {
    const name = proto.name ?? '';
    const domain = domainOf(proto.domain);
    const place = `function ${quote(name)}`;
    const key = functionKey(domain, name);
    if (name === '' || seen.has(key)) throw invalid('a function has no name of its own', place);
    seen.add(key);
    const imports = proto.opsetImport ?? [];
    const opsets = imports.length > 0 ? decodeOpsets(imports as ModelProto['opsetImport'], Number.POSITIVE_INFINITY, place) : context.opsets;
    const inputs = proto.input ?? [];
    const nodes = orderNodes(decodeNodes(proto.node ?? [], place, { ...context, opsets }), new Set(inputs), place);
    const produced = new Set([...inputs, ...nodes.flatMap((node) => node.outputs)]);
    const outputs = proto.output ?? [];
    const missing = outputs.find((output) => !produced.has(output));
    if (missing !== undefined) throw invalid(`nothing produces the output ${quote(missing)}`, place);
    return { name, domain, inputs, outputs, nodes, defaults: decodeAttributes(name, defaults[index] ?? [], place, context.external) };
  });
}

function decodeValues(protos: readonly ValueInfoProto[], what: string): OnnxValue[] {
  const seen = new Set<string>();
  return protos.map((proto, index) => {
    const name = proto.name ?? '';
    const place = name === '' ? `${what} ${index}` : `${what} ${quote(name)}`;
    if (what !== 'value' && name === '') throw invalid(`an ${what} has no name`, place);
    // onnx.checker and onnxruntime take it, but results go by their names.
    if (what !== 'value' && seen.has(name)) throw invalid(`an ${what} has no name of its own: the graph lists it twice`, place, `list it once, or give the other a name of its own${what === 'output' ? ' by an Identity' : ''}`);
    seen.add(name);
    return { name, type: decodeType(proto.type, place) };
  });
}

function decodeType(proto: Onnx.ITypeProto | null | undefined, place: string): OnnxType {
  if (proto?.sequenceType) return { kind: 'other', what: 'sequence' };
  if (proto?.optionalType) return { kind: 'other', what: 'optional' };
  if (proto?.mapType) return { kind: 'other', what: 'map' };
  if (proto?.sparseTensorType) return { kind: 'other', what: 'sparse tensor' };
  const tensor = proto?.tensorType;
  if (!tensor || !tensor.elemType) return { kind: 'other', what: 'untyped' };
  const dims = tensor.shape?.dim?.map((dim) => decodeDim(dim, place));
  return { kind: 'tensor', dtype: dtypeOfOnnx(tensor.elemType), dtypeName: elementName(tensor.elemType), dims };
}

/** Some exporters write −1 for a dimension that they leave open. */
function decodeDim(dim: Onnx.TensorShapeProto.IDimension, place: string): OnnxDim {
  if (dim.dimParam !== null && dim.dimParam !== undefined && dim.dimParam !== '') return dim.dimParam;
  if (dim.dimValue === null || dim.dimValue === undefined || !Object.hasOwn(dim, 'dimValue')) return '';
  const value = toInteger(dim.dimValue, place);
  if (value === -1) return '';
  if (value < 0 || value > MAX_ELEMENTS) throw invalid(`a dimension is ${value}`, place);
  return value;
}

function domainOf(domain: string | null | undefined): string {
  return domain === 'ai.onnx' || !domain ? '' : domain;
}
