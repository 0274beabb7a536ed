/** Right operands of matrix kernels that lie as they are: B[batch, k, column], four columns at a time. */
import { address, collapse, decodeIndex } from '../lower/space.ts';
import { type DeviceTensor, storedBytes, type View } from '../lower/tensor.ts';
import { bindElements, type ElementAccess } from '../wgsl/access.ts';
import type { Block, ModuleBuilder } from '../wgsl/module.ts';
import type { EpilogueSpec } from './epilogue.ts';

/** The right operand: B[batch, k, column] as a view over [batch axes…, k, column]. */
export interface ColumnOperand {
  readonly kind?: undefined;
  readonly tensor: DeviceTensor;
  readonly view: View;
}

/** Reads four columns of B at one depth. */
export class ColumnLoader {
  readonly #view: View;
  readonly #batchExtents: readonly number[];
  readonly #batchView: View;
  readonly #vector: boolean;
  readonly #access: ElementAccess;
  readonly #columns: number;

  constructor(module: ModuleBuilder, spec: Pick<EpilogueSpec, 'batch' | 'columns'>, { tensor, view }: ColumnOperand) {
    const batches = spec.batch.length;
    const space = collapse({ extents: spec.batch, views: [{ offset: view.offset, strides: view.strides.slice(0, batches) }] });
    this.#view = { offset: 0, strides: view.strides.slice(batches) };
    this.#batchExtents = space.extents;
    this.#batchView = space.views[0]!;
    const [depthStride, columnStride] = this.#view.strides as [number, number];
    const aligned = [view.offset, depthStride, ...this.#batchView.strides].every((stride) => stride % 4 === 0);
    this.#vector = columnStride === 1 && aligned;
    this.#columns = spec.columns;
    this.#access = bindElements(module, 'b', tensor, storedBytes(tensor), this.#vector ? 4 : 1, 'read');
  }

  /** Emits what does not change over the depth: the batch's offset and the thread's column, kept inside the matrix. */
  begin(block: Block, column: string): void {
    const base = address(this.#batchView, decodeIndex('batch', this.#batchExtents));
    block.let('b_base', base);
    const last = Math.ceil(this.#columns / 4) * 4 - 4;
    block.let('b_column', `min(${column}, ${last}u)`);
  }

  load(k: string): string {
    const [depthStride, columnStride] = this.#view.strides as [number, number];
    if (this.#vector) return this.#access.load(`(b_base + ${k} * ${depthStride}u + b_column) / 4u`);
    const lanes = [0, 1, 2, 3].map((lane) => {
      const column = lane === 0 ? 'b_column' : `min(b_column + ${lane}u, ${this.#columns - 1}u)`;
      return this.#access.load(`b_base + ${k} * ${depthStride}u + ${column} * ${columnStride}u`);
    });
    return `vec4<f32>(${lanes.join(', ')})`;
  }
}
