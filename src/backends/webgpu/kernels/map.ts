/**
 * The map kernel: out(i) = expr(inputs(i)) over an iteration space with arbitrary strides.
 *
 * One template serves elementwise ops and their fusions with full broadcasting, transposes, slices, expansions, tilings,
 * concatenations (one part each) and layout conversions. It moves vec4s where the innermost axis allows it.
 */
import { type Expr } from '../../../ir/expr.ts';
import { type Dims, type DType, elementCount } from '../../../ir/tensor.ts';
import type { KernelCall } from '../lower/call.ts';
import { address, collapse, decodeIndex, inUnits, isAligned, memoryOrder, permuteSpace, type Space } from '../lower/space.ts';
import { channelAlignment, type DeviceTensor, paddedChannels, storedBytes, storedElements, type View } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { ExprEmitter } from '../wgsl/expr.ts';
import { bindElements, type ElementAccess, loadedType, precisionOf, registerType } from '../wgsl/access.ts';
import { type Block, ModuleBuilder, typeName, type Width } from '../wgsl/module.ts';
import { independentThreads } from './grid.ts';

export interface MapInput {
  readonly tensor: DeviceTensor;
  readonly view: View;
}

export interface MapOutput extends MapInput {
  readonly expr: Expr;
}

export interface MapSpec {
  readonly label: string;
  /** The logical axes that are iterated. */
  readonly dims: Dims;
  readonly inputs: readonly MapInput[];
  readonly outputs: readonly MapOutput[];
  /**
   * Set where axis 1 of `dims` are the channels of a channels-last output whose padding lanes this kernel must fill with
   * zeros.
   */
  readonly padChannels?: boolean;
}

/** The identity of an input: for kernels that only move data. */
export function inputExpr(dtype: DType, index = 0): Expr {
  return { kind: 'input', index, dtype };
}

interface Padding {
  readonly valid: number;
  readonly stored: number;
}

export function mapKernel(spec: MapSpec, profile: DeviceProfile): KernelCall {
  const padding = paddingOf(spec);
  const { space, width } = planSpace(spec, padding);
  const inner = space.extents.length - 1;
  const extents = space.extents.map((extent, axis) => (axis === inner ? Math.ceil(extent / width) : extent));
  const threads = extents.reduce((product, extent) => product * extent, 1);
  const module = new ModuleBuilder(spec.label);
  // A tensor that is padded to fewer channels than the output has nothing to read in the output's last vectors.
  const short = ({ tensor }: MapInput): boolean => padding !== undefined && tensor.layout === 'channels-last' && channelAlignment(tensor.storage) < channelAlignment(spec.outputs[0]!.tensor.storage);
  const loads = spec.inputs.map((input, i) => new Operand(module, `in${i}`, input, space.views[i]!, inner, short(input) ? 'lanes' : 'vectors', width, 'read'));
  const stores = spec.outputs.map(
    (output, i) => new Operand(module, `out${i}`, output, space.views[spec.inputs.length + i]!, inner, 'vectors', width, 'read_write'),
  );
  const workgroups = independentThreads(module, threads, profile, (block) => {
    const steps = decodeIndex('i', extents).map((code, axis) => block.let(`c${axis}`, code));
    const elements = width === 1 ? steps : [...steps.slice(0, -1), block.let('e', `${steps[inner]} * 4u`)];
    const at: Point = { elements, vectors: steps };
    const channel = padding && address(space.views.at(-1)!, elements);
    const registers = loads.map((load) => load.load(block, at, padding && clampOf(space, inner, padding)));
    const emitter = new ExprEmitter(module, block, width, registers, { precision: spec.outputs.every(({ tensor }) => precisionOf(tensor) === 'half') ? 'half' : 'single' });
    for (const [i, store] of stores.entries()) {
      store.store(block, at, emitter.emit(spec.outputs[i]!.expr), channel === undefined ? undefined : { channel, valid: padding!.valid });
    }
  });
  return {
    source: module.finish(),
    operands: [...spec.inputs, ...spec.outputs].map((operand) => operand.tensor),
    workgroups,
  };
}

function paddingOf(spec: MapSpec): Padding | undefined {
  if (!spec.padChannels) return undefined;
  const valid = spec.dims[1]!;
  const stored = paddedChannels(spec.dims, spec.outputs[0]!.tensor.storage);
  return stored === valid ? undefined : { valid, stored };
}

/** The collapsed space in the order of the first output's memory, and the width of a vector along its innermost axis. */
function planSpace(spec: MapSpec, padding: Padding | undefined): { space: Space; width: Width } {
  const extents = spec.dims.map((extent, axis) => (padding && axis === 1 ? padding.stored : extent));
  const views = [...spec.inputs, ...spec.outputs].map((operand) => operand.view);
  // The channel coordinate as an operand of its own keeps that axis from merging with others.
  if (padding) views.push({ offset: 0, strides: extents.map((_, axis) => (axis === 1 ? 1 : 0)) });
  const order = memoryOrder(spec.outputs[0]!.view.strides);
  const collapsed = collapse(permuteSpace({ extents, views }, order));
  const flat = (extent: number): Space => ({ extents: [extent], views: views.map(({ offset }) => ({ offset, strides: [1] })) });
  const count = elementCount(extents);
  // A space of one point has no axes left, and one of none has axes that no index can be divided by.
  const space = count === 0 ? flat(0) : collapsed.extents.length === 0 ? flat(1) : collapsed;
  const inner = space.extents.length - 1;
  const outputs = space.views.slice(spec.inputs.length, spec.inputs.length + spec.outputs.length);
  const aligned = outputs.every((view) => view.strides[inner] === 1 && isAligned(view, 4, inner));
  const whole =
    space.extents.length === 1 &&
    spec.outputs.every(({ tensor }) => !tensor.window && storedElements(tensor) === space.extents[0]) &&
    space.views.slice(0, spec.inputs.length).every((view) => view.strides[0] === 0 || (view.strides[0] === 1 && view.offset === 0));
  return { space, width: count > 0 && aligned && (space.extents[inner]! % 4 === 0 || whole) ? 4 : 1 };
}

/** How reads of a channel beyond the last valid one are kept inside the tensor. */
interface Clamp {
  readonly axis: number;
  readonly valid: number;
}

function clampOf(space: Space, inner: number, padding: Padding): Clamp {
  const axis = space.views.at(-1)!.strides.findIndex((stride) => stride === 1);
  return { axis: axis < 0 ? inner : axis, valid: padding.valid };
}

/** A thread's coordinates: by element, and with the innermost axis counted in vec4s. */
interface Point {
  readonly elements: readonly string[];
  readonly vectors: readonly string[];
}

/** One bound tensor: how a thread's `width` elements are read or written. */
class Operand {
  readonly #name: string;
  readonly #access: ElementAccess;
  readonly #tensor: DeviceTensor;
  readonly #view: View;
  readonly #inner: number;
  readonly #width: Width;
  readonly #vector: boolean;

  constructor(
    module: ModuleBuilder,
    name: string,
    operand: MapInput,
    view: View,
    inner: number,
    how: 'vectors' | 'lanes',
    width: Width,
    access: 'read' | 'read_write',
  ) {
    this.#name = name;
    this.#tensor = operand.tensor;
    this.#inner = inner;
    this.#width = width;
    this.#vector = how === 'vectors' && width === 4 && view.strides[inner] === 1 && isAligned(view, 4, inner);
    this.#view = this.#vector ? inUnits(view, 4, inner) : view;
    this.#access = bindElements(module, name, operand.tensor, storedBytes(operand.tensor), this.#vector ? 4 : 1, access);
  }

  load(block: Block, at: Point, clamp: Clamp | undefined): string {
    const value = block.let(`v_${this.#name}`, this.#loadCode(at, clamp));
    if (registerType(this.#tensor.dtype) !== 'bool') return value;
    return block.let(`b_${this.#name}`, `${value} != ${typeName('u32', this.#width)}(0u)`);
  }

  #loadCode(at: Point, clamp: Clamp | undefined): string {
    if (this.#vector) return this.#access.load(address(this.#view, at.vectors));
    const type = loadedType(this.#tensor, this.#width);
    const lane = (step: number): string => {
      const moved = at.elements.map((c, axis) => {
        const code = axis === this.#inner && step > 0 ? `(${c} + ${step}u)` : c;
        return clamp?.axis === axis && this.#view.strides[axis] !== 0 ? `min(${code}, ${clamp.valid - 1}u)` : code;
      });
      return this.#access.load(address(this.#view, moved));
    };
    if (this.#width === 1) return lane(0);
    return this.#view.strides[this.#inner] === 0 ? `${type}(${lane(0)})` : `${type}(${[0, 1, 2, 3].map(lane).join(', ')})`;
  }

  store(block: Block, at: Point, value: string, mask: { readonly channel: string; readonly valid: number } | undefined): void {
    const type = loadedType(this.#tensor, this.#width);
    let code = value;
    if (registerType(this.#tensor.dtype) === 'bool') code = `select(${type}(0u), ${type}(1u), ${value})`;
    if (mask) {
      const lanes = this.#width === 4 ? `vec4<u32>(${mask.channel}) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(${mask.valid}u)` : `${mask.channel} < ${mask.valid}u`;
      code = `select(${type}(0), ${code}, ${lanes})`;
    }
    block.line(this.#access.store(address(this.#view, this.#vector ? at.vectors : at.elements), code));
  }
}
