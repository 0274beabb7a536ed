/**
 * The point kernel: one thread per point of a grid, with a body that says what the thread does.
 *
 * It serves whatever is no affine walk over its operands (that is the map kernel's): indexed reads and writes, resampling,
 * ranking, generators. Operands are addressed by logical coordinates, so that bodies know nothing of layouts.
 */
import { elementCount } from '../../../ir/tensor.ts';
import type { KernelCall } from '../lower/call.ts';
import { address, decodeIndex } from '../lower/space.ts';
import { type DeviceTensor, paddedChannels, storedBytes, type View, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements, type ElementAccess, registerType } from '../wgsl/access.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { independentThreads } from './grid.ts';

/** Tensors by the name that a body calls them. */
export type Operands = Readonly<Record<string, DeviceTensor>>;

/** A bound tensor as bodies see it. Coordinates are WGSL expressions of type u32, one per logical axis. */
export class BoundTensor {
  readonly tensor: DeviceTensor;
  readonly #name: string;
  readonly #access: ElementAccess;
  readonly #view: View;

  constructor(module: ModuleBuilder, name: string, tensor: DeviceTensor, access: 'read' | 'read_write') {
    this.tensor = tensor;
    // A prefix of its own, so that no local name of a body hides it.
    this.#name = `g_${name}`;
    this.#access = bindElements(module, this.#name, tensor, storedBytes(tensor), 1, access);
    this.#view = viewOf(tensor);
  }

  /** The element's value in its register type. */
  load(coordinates: readonly string[]): string {
    const word = this.#access.load(this.#address(coordinates));
    return registerType(this.tensor.dtype) === 'bool' ? `(${word} != 0u)` : word;
  }

  /** The element at a row-major index of a linear tensor. */
  loadFlat(index: string): string {
    this.#requireLinear();
    const word = this.#access.load(index);
    return registerType(this.tensor.dtype) === 'bool' ? `(${word} != 0u)` : word;
  }

  store(block: Block, coordinates: readonly string[], value: string): void {
    this.#store(block, this.#address(coordinates), value);
  }

  /** As {@link loadFlat}. */
  storeFlat(block: Block, index: string, value: string): void {
    this.#requireLinear();
    this.#store(block, index, value);
  }

  #store(block: Block, index: string, value: string): void {
    const word = registerType(this.tensor.dtype) === 'bool' ? `select(0u, 1u, ${value})` : value;
    block.line(this.#access.store(index, word));
  }

  #address(coordinates: readonly string[]): string {
    const { length } = this.#view.strides;
    if (coordinates.length !== length) throw new Error(`${this.#name} has ${length} axes, not ${coordinates.length}`);
    return address(this.#view, coordinates.map((c) => `(${c})`));
  }

  #requireLinear(): void {
    if (this.tensor.layout !== 'linear' || this.tensor.window) throw new Error(`${this.#name} is not in row-major order`);
  }
}

export interface PointScope<In extends string, Out extends string> {
  readonly module: ModuleBuilder;
  readonly block: Block;
  /** The thread's coordinates: names of u32. */
  readonly at: readonly string[];
  readonly inputs: { readonly [K in In]: BoundTensor };
  readonly outputs: { readonly [K in Out]: BoundTensor };
}

export interface PointSpec<In extends string, Out extends string> {
  readonly label: string;
  /** Extents of the grid, outermost first; their product is the number of threads. */
  readonly extents: readonly number[];
  readonly inputs: Readonly<Record<In, DeviceTensor>>;
  readonly outputs: Readonly<Record<Out, DeviceTensor>>;
  body(scope: PointScope<In, Out>): void;
}

function bindAll<K extends string>(module: ModuleBuilder, tensors: Readonly<Record<K, DeviceTensor>>, access: 'read' | 'read_write'): Record<K, BoundTensor> {
  const entries = Object.entries<DeviceTensor>(tensors).map(([name, tensor]) => [name, new BoundTensor(module, name, tensor, access)]);
  return Object.fromEntries(entries) as Record<K, BoundTensor>;
}

export function pointKernel<In extends string, Out extends string>(spec: PointSpec<In, Out>, profile: DeviceProfile): KernelCall {
  const threads = elementCount(spec.extents);
  const module = new ModuleBuilder(spec.label);
  const inputs = bindAll(module, spec.inputs, 'read');
  const outputs = bindAll(module, spec.outputs, 'read_write');
  const workgroups = independentThreads(module, threads, profile, (block) => {
    const at = decodeIndex('i', spec.extents).map((code, axis) => block.let(`c${axis}`, code));
    spec.body({ module, block, at, inputs, outputs });
  });
  return {
    source: module.finish(),
    operands: [...Object.values<DeviceTensor>(spec.inputs), ...Object.values<DeviceTensor>(spec.outputs)],
    workgroups,
  };
}

export interface ElementSpec<In extends string> {
  readonly label: string;
  readonly inputs: Readonly<Record<In, DeviceTensor>>;
  readonly output: DeviceTensor;
  /** Emits what it needs and returns the element's value in the output's register type; `at` are the element's coordinates. */
  body(scope: PointScope<In, 'result'>): string;
}

/** One thread per element of the output, in the order of its memory; padding lanes of channels-last outputs get zero. */
export function elementKernel<In extends string>(spec: ElementSpec<In>, profile: DeviceProfile): KernelCall {
  const { output } = spec;
  const { dims } = output;
  const channelsLast = output.layout === 'channels-last' && dims.length > 1;
  const stored = channelsLast ? [dims[0]!, ...dims.slice(2), paddedChannels(dims, output.storage)] : dims;
  return pointKernel(
    {
      label: spec.label,
      extents: stored,
      inputs: spec.inputs,
      outputs: { result: output },
      body(scope) {
        const { block, outputs } = scope;
        const at = channelsLast ? [scope.at[0]!, scope.at.at(-1)!, ...scope.at.slice(1, -1)] : scope.at;
        if (channelsLast && stored.at(-1)! !== dims[1]!) {
          block.if(`${at[1]} >= ${dims[1]}u`, (padding) => {
            outputs.result.store(padding, at, registerType(output.dtype) === 'bool' ? 'false' : `${output.storage}(0)`);
            padding.line('return');
          });
        }
        outputs.result.store(block, at, spec.body({ ...scope, at }));
      },
    },
    profile,
  );
}

/** WGSL: an index that may count from the end (i32), as one inside [0, extent) (u32); indices beyond are clamped. */
export function wrapIndex(index: string, extent: number): string {
  return `u32(clamp(select(${index}, ${index} + ${extent}, ${index} < 0), 0, ${extent - 1}))`;
}
