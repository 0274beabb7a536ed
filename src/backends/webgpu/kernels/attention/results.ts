/** Where attention's results go: through an expression where there is one, four neighbours at a time. */
import { address, inUnits } from '../../lower/space.ts';
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import { bindElements, type ElementAccess } from '../../wgsl/access.ts';
import { ExprEmitter } from '../../wgsl/expr.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import { type AttentionSpec, queryPlace } from './spec.ts';

/** Code of whether a row whose weights have this sum has a softmax: the sum is 0 where every score is −∞, and NaN where one is NaN or +∞. */
export const hasSoftmax = (sum: string): string => `(${sum} > 0.0f && ${sum} < 3.0e38f)`;

export class AttentionResults {
  readonly #module: ModuleBuilder;
  readonly #spec: AttentionSpec;
  readonly #output: ElementAccess;
  readonly #ends: readonly ElementAccess[];
  #stores = 0;

  /** The tensors that the constructor binds, in order. */
  static operands({ output, end }: AttentionSpec): DeviceTensor[] {
    return [output.tensor, ...(end?.inputs ?? [])];
  }

  constructor(module: ModuleBuilder, spec: AttentionSpec) {
    const { output, end } = spec;
    this.#module = module;
    this.#spec = spec;
    this.#output = bindElements(module, 'out', output.tensor, storedBytes(output.tensor), 4, 'read_write');
    this.#ends = (end?.inputs ?? []).map((tensor, i) => bindElements(module, `end${i}`, tensor, storedBytes(tensor), 1, 'read'));
  }

  /** Emits the store of a vec4<f32> at [batch, head of keys, row, column]. */
  emit(block: Block, [batch, head, row, column]: readonly [string, string, string, string], value: string): void {
    const { output, end } = this.#spec;
    const at = address(inUnits(output.view, 4, 3), [batch, ...queryPlace(this.#spec, head, row), `(${column} / 4u)`]);
    const registers = [value, ...this.#ends.map(({ scalar, load }) => `vec4<${scalar}>(${load('0u')})`)];
    const result = end ? new ExprEmitter(this.#module, block, 4, registers, { prefix: `end${this.#stores++}_` }).emit(end.expr) : value;
    block.line(this.#output.store(at, result));
  }
}
