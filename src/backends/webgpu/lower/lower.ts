/**
 * Graph → program: every node lowered to kernels over device tensors, layouts converted where a kernel asks for another.
 */
import type { EngineLayer } from '../../../engine/engine.ts';
import { opTitle } from '../../../ir/custom.ts';
import { unionOrigins } from '../../../ir/edit.ts';
import type { AnyNode, Graph, Node, ValueId } from '../../../ir/graph.ts';
import { typeOf } from '../../../ir/graph.ts';
import type { OpKind } from '../../../ir/ops.ts';
import { INTERNAL_OPS } from '../../../ir/verify.ts';
import { beyond32Bits, type Dims, type DType, sameDims, toNumbers } from '../../../ir/tensor.ts';
import { boundedAxis } from '../../../ops/bounded.ts';
import { CAST_ONLY } from '../../../passes/device-types.ts';
import { nodeCost } from '../../../ops/infer.ts';
import { paddedBytes, type Storage, STORAGE_BYTES } from '../../../engine/plan.ts';
import type { Unsupported } from '../../backend.ts';
import { inputExpr, mapKernel } from '../kernels/map.ts';
import type { RowSums } from '../kernels/packed/spec.ts';
import { type DeviceProfile, matricesOf } from '../profile.ts';
import type { Candidate, TacticProblem } from '../tactics/tactic.ts';
import type { KernelCall } from './call.ts';
import type { HostArray, LeftNormalization, LeftToReader, LowerContext, Lowering, LowerOptions, Program, ProgramStep, StorageWish, TacticChooser } from './context.ts';
import { hasMatrices } from './candidates.ts';
import { constantArray } from './constants.ts';
import { Homes } from './homes.ts';
import { leftToReader } from './left-to-reader.ts';
import { leftNormalization } from './normalizations.ts';
import { known } from './ops/generate.ts';
import { givesNothing } from './support.ts';
import { LOWERINGS } from './table.ts';
import { type DeviceTensor, type Layout, layoutsAgree, narrowStorage, storageOf, storedBytes, storedElements, viewOf } from './tensor.ts';

/** Everything in the graph that has no kernel, at once. */
export function unsupportedNodes(graph: Graph): Unsupported[] {
  const found: Unsupported[] = [];
  for (const node of graph.nodes) {
    const reason = unsupportedReason(node, graph);
    if (reason !== undefined) found.push({ node: node.name, op: opName(node), reason });
  }
  for (const id of graph.outputs) {
    const constant = graph.constants.get(id);
    if (constant && beyond32Bits(constant) !== undefined) found.push({ node: id, op: 'binding', reason: `it has ${constant.dtype} values beyond 32 bits` });
  }
  return found;
}

/** What reads and writes the types that only casts know: casts, and the fused nodes that have taken some in. */
const TAKES_CASTS: ReadonlySet<OpKind> = new Set<OpKind>(['Cast', ...INTERNAL_OPS]);

function opName(node: AnyNode): string {
  return node.op === 'Custom' ? opTitle({ domain: node.attrs.domain, name: node.attrs.opType }) : node.op;
}

/** The table's row for an op, with the node's kind forgotten: the pair comes from one lookup. */
function loweringOf(op: OpKind): Lowering<OpKind> | undefined {
  return LOWERINGS[op] as Lowering<OpKind> | undefined;
}

function unsupportedReason(node: AnyNode, graph: Graph): string | undefined {
  const lowering = loweringOf(node.op);
  if (!lowering) return 'the webgpu backend has no kernel for this op';
  for (const [index, id] of node.inputs.entries()) {
    const constant = lowering.hostInputs?.includes(index) ? undefined : graph.constants.get(id);
    if (constant && beyond32Bits(constant) !== undefined) return `constant ${id} has ${constant.dtype} values beyond 32 bits`;
  }
  const foreign = TAKES_CASTS.has(node.op) ? undefined : [...node.inputs, ...node.outputs].find((id) => id !== '' && CAST_ONLY.has(typeOf(graph, id).dtype));
  if (foreign !== undefined) return `no device type holds ${typeOf(graph, foreign).dtype} (value ${foreign})`;
  return givesNothing(node, graph) ? undefined : lowering.unsupported?.(node as Node<OpKind>, graph);
}

/** Lowers a graph of which {@link unsupportedNodes} found nothing. */
export function lowerGraph(graph: Graph, profile: DeviceProfile, options: LowerOptions = {}): Program {
  const builder = new ProgramBuilder(graph, profile, options);
  for (const node of graph.nodes) builder.lower(node);
  return builder.finish();
}

/** The one that the cost model puts first. */
const firstTactic: TacticChooser = (_, candidates) => candidates[0]!;

class ProgramBuilder implements LowerContext {
  readonly graph: Graph;
  readonly profile: DeviceProfile;
  readonly windows: boolean;
  readonly half: boolean;
  readonly split: boolean;
  readonly halfSums: boolean;
  readonly #homes: Homes | undefined;
  readonly #options: LowerOptions;
  readonly #scratch = new Set<number>();
  readonly #bytes: number[] = [];
  readonly #steps: ProgramStep[] = [];
  readonly #layers: EngineLayer[] = [];
  readonly #constants = new Map<number, () => HostArray>();
  readonly #packed = new Map<string, DeviceTensor>();
  readonly #values = new Map<ValueId, DeviceTensor>();
  readonly #converted = new Map<string, DeviceTensor>();
  /** Nodes whose work their one reader does, by the value that no kernel writes. */
  readonly #left = new Map<ValueId, LeftToReader>();
  readonly #normalizations = new Map<ValueId, LeftNormalization>();
  readonly #rowSums = new Map<ValueId, RowSums>();
  /** Nodes whose work was done with one before them, by that one. */
  readonly #taken = new Map<AnyNode, AnyNode>();
  readonly #lengths = new Map<ValueId, DeviceTensor>();
  readonly #inputs: { readonly name: string; readonly tensor: DeviceTensor }[] = [];
  readonly #inPlace = { written: 0, viewed: 0 };
  #node: AnyNode | undefined;
  #layer: number | undefined;

  constructor(graph: Graph, profile: DeviceProfile, options: LowerOptions) {
    this.graph = graph;
    this.profile = profile;
    this.#options = options;
    this.half = options.half ?? false;
    this.split = !this.half && (options.split ?? false) && hasMatrices(profile, 'f16');
    this.halfSums = this.half && (options.halfSums ?? false) && matricesOf(profile, 'f16', true).length > 0;
    this.windows = options.windows ?? true;
    this.#homes = this.windows ? new Homes(graph, (dtype, dims, layout, storage) => this.#allocate(dtype, dims, layout, storage)) : undefined;
    for (const name of graph.inputs) {
      const { dtype, dims } = typeOf(graph, name);
      const tensor = this.#allocate(dtype, dims, 'linear', options.byteInputs?.has(name) ? 'u8' : undefined);
      this.#values.set(name, tensor);
      this.#inputs.push({ name, tensor });
    }
  }

  lower(node: AnyNode): void {
    if (this.#taken.has(node)) return;
    this.#node = node;
    this.#layer = undefined;
    if (givesNothing(node, this.graph)) {
      for (const id of node.outputs) if (id !== '') known(this, id, []);
      return;
    }
    const lowering = loweringOf(node.op)!;
    const normalization = leftNormalization(node, this);
    if (normalization) {
      this.#normalizations.set(node.outputs[0]!, normalization);
      return;
    }
    const left = leftToReader(node, this, () => lowering.compute?.(node as Node<OpKind>, this));
    if (left) this.#left.set(node.outputs[0]!, left);
    else lowering.lower(node as Node<OpKind>, this);
  }

  finish(): Program {
    this.#node = undefined;
    const taken = new Set(this.#inputs.map(({ tensor }) => tensor.id));
    const outputs = this.graph.outputs.map((name) => {
      const found = this.#tensorAs(name, this.source(name), 'linear', storageOf(this.type(name).dtype));
      const lies = found.window ? this.#copied(name, found, 'linear', found.storage) : found;
      // An output needs a buffer of its own: inputs, constants and values that are outputs twice are copied.
      const tensor = taken.has(lies.id) || this.#constants.has(lies.id) ? this.#convert(name, lies, 'linear', lies.storage) : lies;
      taken.add(tensor.id);
      const axis = boundedAxis(this.graph, name);
      return axis === undefined ? { name, tensor } : { name, tensor, length: { tensor: this.length(name), axis } };
    });
    const read = new Set(this.#steps.flatMap(({ call }) => call.operands.map(({ id }) => id)));
    const constants = new Map([...this.#constants].filter(([id]) => read.has(id)));
    return {
      inPlace: this.#inPlace,
      steps: this.#steps,
      layers: this.#layers,
      tensorBytes: this.#bytes,
      scratch: this.#scratch,
      constants,
      inputs: this.#inputs,
      outputs,
    };
  }

  type(id: ValueId) {
    return typeOf(this.graph, id);
  }

  constant(id: ValueId) {
    return this.graph.constants.get(id);
  }

  ints(id: ValueId): readonly number[] | undefined {
    const constant = this.constant(id);
    return constant && toNumbers(constant);
  }

  tensor(id: ValueId): DeviceTensor {
    const tensor = this.source(id);
    return tensor.window ? this.#copied(id, tensor, tensor.layout, copiedStorage(tensor)) : tensor;
  }

  tensorIn(id: ValueId, layout: Layout, wish?: StorageWish): DeviceTensor {
    const tensor = this.sourceIn(id, layout, wish);
    return tensor.window ? this.#copied(id, tensor, layout, copiedStorage(tensor)) : tensor;
  }

  source(id: ValueId): DeviceTensor {
    const known = this.#values.get(id);
    if (known) return known;
    const constant = this.constant(id);
    if (!constant) throw new Error(`value '${id}' is read before it is written`);
    const { dtype, dims } = constant;
    const tensor = this.pack(`${id}:linear`, { dtype, dims, storage: storageOf(dtype) }, () => constantArray(constant));
    this.#values.set(id, tensor);
    return tensor;
  }

  sourceIn(id: ValueId, layout: Layout, wish?: StorageWish): DeviceTensor {
    const tensor = this.source(id);
    const storage = wish ? this.#storage(id, tensor.dims, layout, wish) : keptStorage(tensor, layout);
    return this.#tensorAs(id, tensor, layout, storage);
  }

  #tensorAs(id: ValueId, tensor: DeviceTensor, layout: Layout, storage: Storage): DeviceTensor {
    if (tensor.storage === storage) {
      if (tensor.layout === layout) return tensor;
      // Any strides may pass for linear ones; channels-last promises more.
      const agree = layoutsAgree(tensor.dims, storage) && !(tensor.window && layout === 'channels-last');
      if (agree) return { ...tensor, layout };
    }
    return this.#copied(id, tensor, layout, storage);
  }

  copy(id: ValueId): DeviceTensor {
    const tensor = this.source(id);
    return this.#copied(id, tensor, tensor.layout, copiedStorage(tensor));
  }

  /** A copy with memory of its own, made once per value. */
  #copied(id: ValueId, tensor: DeviceTensor, layout: Layout, storage: Storage): DeviceTensor {
    const key = `${id}:${layout}:${storage}`;
    const known = this.#converted.get(key);
    if (known) return known;
    const converted = this.#convert(id, tensor, layout, storage);
    this.#converted.set(key, converted);
    return converted;
  }

  /** The storage of a value, with a wish granted where it can be. */
  #storage(id: ValueId, dims: Dims, layout: Layout, wish: StorageWish): Storage {
    const { dtype } = this.type(id);
    const canonical = storageOf(dtype);
    // Outputs of the graph leave in their own type, and inputs of halves would only be converted back.
    if (wish === 'canonical' || (layout === 'linear' && this.graph.outputs.includes(id))) return canonical;
    if (canonical === 'f32' && !(this.half && this.fitsHalves(id))) return canonical;
    return narrowStorage(dtype, dims, layout) ?? canonical;
  }

  fitsHalves(id: ValueId): boolean {
    return !this.#options.keepFloat?.has(id);
  }

  pack(key: string, spec: { dtype: DType; dims: Dims; storage: Storage }, make: () => HostArray): DeviceTensor {
    const known = this.#packed.get(key);
    if (known) return known;
    const tensor = { ...this.#allocate(spec.dtype, spec.dims, 'linear', spec.storage), constant: true };
    this.#constants.set(tensor.id, () => {
      const values = make();
      const count = storedElements(tensor);
      if (values.length !== count) throw new Error(`constant '${key}' was packed into ${values.length} elements, not ${count}`);
      return values;
    });
    this.#packed.set(key, tensor);
    return tensor;
  }

  left(id: ValueId): LeftToReader | undefined {
    return this.#left.get(id);
  }

  normalization(id: ValueId): LeftNormalization | undefined {
    return this.#normalizations.get(id);
  }

  rowSums(id: ValueId): RowSums | undefined {
    return this.#rowSums.get(id);
  }

  giveRowSums(id: ValueId, sums: RowSums): void {
    this.#rowSums.set(id, sums);
  }

  take(reader: AnyNode): void {
    this.#taken.set(reader, this.#node!);
  }

  /** The nodes before this one whose work it does, in order. */
  #leftBefore(node: AnyNode): AnyNode[] {
    const before = node.inputs.flatMap((id) => (this.#left.get(id) ?? this.#normalizations.get(id))?.node ?? []);
    return before.flatMap((left) => [...this.#leftBefore(left), left]);
  }

  /** The node whose kernels are made, among those whose work it does, in order. */
  #doneBy(node: AnyNode): AnyNode[] {
    return [...this.#leftBefore(node), node, ...[...this.#taken].flatMap(([reader, writer]) => (writer === node ? [reader] : []))];
  }

  length(id: ValueId): DeviceTensor {
    const tensor = this.#lengths.get(id) ?? this.#allocate('int32', [1], 'linear');
    this.#lengths.set(id, tensor);
    return tensor;
  }

  intermediate(dtype: DType, dims: Dims, layout: Layout, storage: Storage): DeviceTensor {
    return this.#allocate(dtype, dims, layout, storage);
  }

  scratch(dtype: DType, dims: Dims, storage?: Storage): DeviceTensor {
    const tensor = this.#allocate(dtype, dims, 'linear', storage);
    this.#scratch.add(tensor.id);
    return tensor;
  }

  choose(problem: TacticProblem, candidates: readonly Candidate[]): void {
    const { workspaceBytes = Number.POSITIVE_INFINITY, choose = firstTactic } = this.#options;
    const most = Math.min(workspaceBytes, this.profile.maxBindingBytes);
    const chosen = choose(problem, candidates.filter(({ scratchBytes }) => scratchBytes <= most), this.#node!.name);
    for (const call of chosen.kernels()) this.dispatch(call);
  }

  define(id: ValueId, layout: Layout, wish: StorageWish = 'canonical'): DeviceTensor {
    return this.#define(id, layout, this.#storage(id, this.type(id).dims, layout, wish));
  }

  defineLike(id: ValueId, layout: Layout, source: DeviceTensor): DeviceTensor {
    return this.#define(id, layout, source.storage);
  }

  target(id: ValueId, layout: Layout, wish: StorageWish = 'canonical'): DeviceTensor {
    return this.#place(id, layout, this.#storage(id, this.type(id).dims, layout, wish));
  }

  targetLike(id: ValueId, layout: Layout, source: DeviceTensor): DeviceTensor {
    return this.#place(id, layout, source.storage);
  }

  home(id: ValueId): DeviceTensor | undefined {
    return this.#homes?.of(id);
  }

  #place(id: ValueId, layout: Layout, storage: Storage): DeviceTensor {
    const touched = this.#doneBy(this.#node!).flatMap(({ inputs, outputs }) => [...inputs, ...outputs]);
    const bound = new Set(touched.flatMap((value) => this.#values.get(value)?.id ?? []));
    const own = this.home(id);
    const tensor = own ?? this.#homes?.place(id, layout, storage, bound);
    if (!tensor) return this.#define(id, layout, storage);
    if (!own || own.window) this.#inPlace.written++;
    this.#values.set(id, tensor);
    return tensor;
  }

  #define(id: ValueId, layout: Layout, storage: Storage): DeviceTensor {
    const { dtype, dims } = this.type(id);
    const tensor = this.#allocate(dtype, dims, layout, storage);
    this.#values.set(id, tensor);
    return tensor;
  }

  alias(id: ValueId, source: DeviceTensor, layout: Layout): void {
    const { dtype, dims } = this.type(id);
    const tensor: DeviceTensor = { ...source, dtype, dims, layout };
    if (source.window) this.#inPlace.viewed++;
    if (source.window && !sameDims(source.dims, dims)) throw new Error(`'${id}' has other dims than the window that it aliases`);
    if (storedBytes(tensor) > this.#bytes[source.id]!) throw new Error(`'${id}' does not fit the tensor that it aliases`);
    this.#values.set(id, tensor);
  }

  dispatch(call: KernelCall): void {
    checkAliasing(call);
    this.#layer ??= this.#addLayer(call);
    const layer = this.#layers[this.#layer]!;
    // What prepares a product's operands comes before the kernel that the layer is named for.
    if (call.tactic !== undefined && layer.tactic === undefined) this.#layers[this.#layer] = { ...layer, tactic: call.tactic };
    this.#steps.push({ call, layer: this.#layer });
  }

  #addLayer(call: KernelCall): number {
    const node = this.#node!;
    const cost = nodeCost(this.graph, node);
    const before = this.#leftBefore(node).filter(({ outputs }) => this.#left.get(outputs[0]!)?.computed === undefined && this.#left.has(outputs[0]!));
    return this.#layers.push({
      name: node.name,
      kind: opName(node),
      precision: call.precision ?? this.#storedPrecision(node),
      // Of several products that normalize the same rows the first one answers for it.
      origins: unionOrigins(...this.#doneBy(node).filter(({ outputs }) => (this.#normalizations.get(outputs[0]!)?.first ?? node) === node)),
      flops: before.reduce((sum, left) => sum + nodeCost(this.graph, left).flops, cost.flops),
      bytes: cost.bytes,
      ...(call.tactic !== undefined && { tactic: call.tactic }),
    }) - 1;
  }

  /** The type of the node's first output, or float16 where halves are stored. A product of floats that ends in a quantization is none of bytes. */
  #storedPrecision(node: AnyNode): DType {
    const output = node.outputs.find((id) => id !== '')!;
    const { dtype } = this.type(output);
    if (FLOAT_PRODUCTS.has(node.op) && (dtype === 'int8' || dtype === 'uint8')) return this.half ? 'float16' : 'float32';
    return this.#values.get(output)?.storage === 'f16' ? 'float16' : dtype;
  }

  #allocate(dtype: DType, dims: Dims, layout: Layout, storage: Storage = storageOf(dtype)): DeviceTensor {
    const id = this.#bytes.length;
    const tensor: DeviceTensor = { id, dtype, dims, storage, layout };
    this.#bytes.push(paddedBytes(storedElements(tensor) * STORAGE_BYTES[storage]));
    return tensor;
  }

  /** A copy in another layout or storage, as a layer of its own: no ONNX node asked for it, but its time counts. */
  #convert(id: ValueId, source: DeviceTensor, layout: Layout, storage: Storage): DeviceTensor {
    const target = this.#allocate(source.dtype, source.dims, layout, storage);
    const call = mapKernel(
      {
        label: 'Reformat',
        dims: source.dims,
        inputs: [{ tensor: source, view: viewOf(source) }],
        outputs: [{ tensor: target, view: viewOf(target), expr: inputExpr(source.dtype) }],
        padChannels: layout === 'channels-last',
      },
      this.profile,
    );
    const bytes = this.#bytes[source.id]! + this.#bytes[target.id]!;
    const layer: EngineLayer = { name: `${id} to ${layout}${storage === source.storage ? '' : ` ${storage}`}`, kind: 'Reformat', precision: storage === 'f16' ? 'float16' : source.dtype, origins: [], flops: 0, bytes };
    this.#steps.push({ call, layer: this.#layers.push(layer) - 1 });
    return target;
  }
}

/** Products whose kernels multiply floats, whatever their fused end makes of the sums. */
const FLOAT_PRODUCTS: ReadonlySet<OpKind> = new Set<OpKind>(['Conv', 'ConvTranspose', 'FusedConv', 'FusedMatMul', 'Gemm', 'MatMul', 'WeightOnlyMatMul']);

/** WebGPU's rule: no dispatch writes a buffer that it binds in another place too. */
function checkAliasing({ source, operands }: KernelCall): void {
  for (const [i, { id }] of operands.entries()) {
    const twice = source.access[i] === 'read_write' && operands.some((other, j) => j !== i && other.id === id);
    if (twice) throw new Error(`${source.label} writes a tensor that it also binds elsewhere`);
  }
}

/** Without a wish the storage stays, where rows of the other layout are whole vectors of it. */
function keptStorage({ dtype, dims, storage, layout: own }: DeviceTensor, layout: Layout): Storage {
  const canonical = storageOf(dtype);
  return own === layout || narrowStorage(dtype, dims, layout) === storage ? storage : canonical;
}

/** Of a copy with memory of its own: rows of a window may end within a vector, where only f32 and words can be written. */
function copiedStorage({ dtype, dims, storage, layout }: DeviceTensor): Storage {
  return narrowStorage(dtype, dims, layout) === storage ? storage : storageOf(dtype);
}
