/**
 * Expressions (ir/expr.ts) to WGSL, for scalars and vec4s alike.
 *
 * Floating types are computed in f32 whatever the tensors hold. Narrow integers live in 32 bits and are wrapped after every
 * operation that can leave their range. Equal subtrees are computed once.
 */
import type { Expr, UnaryFn } from '../../../ir/expr.ts';
import { type FewBitsFloat, isFewBitsFloat } from '../../../ir/few-bits.ts';
import { exprDtype } from '../../../ops/internal.ts';
import { DTYPE_BITS, type DType } from '../../../ir/tensor.ts';
import { type Precision, registerType } from './access.ts';
import { fewBitsHelper } from './few-bits.ts';
import { type Block, type ModuleBuilder, type Scalar, typeName, type Width } from './module.ts';
import { wrapInteger } from './narrow.ts';

/** A literal of the register type; infinities and NaN come from helpers, because WGSL has no such constants. */
export function literal(module: ModuleBuilder, value: number, scalar: Scalar): string {
  switch (scalar) {
    case 'bool':
      return value ? 'true' : 'false';
    case 'u32':
      return `${value < 0 ? value + 2 ** 32 : value}u`;
    case 'i32':
      return value === -(2 ** 31) ? `(-2147483647i - 1i)` : `${value}i`;
    case 'f16':
    case 'f32':
      return floatLiteral(module, value);
    default:
      return scalar satisfies never;
  }
}

function floatLiteral(module: ModuleBuilder, value: number): string {
  if (Number.isNaN(value)) return `${module.helper('nan')}()`;
  const rounded = Math.fround(value);
  if (!Number.isFinite(rounded)) return `${rounded < 0 ? '-' : ''}${module.helper('inf')}()`;
  return `${Object.is(rounded, -0) ? '-0.0' : rounded}f`;
}

/** Emits expressions into one block; results are names of registers. */
export class ExprEmitter {
  readonly #module: ModuleBuilder;
  readonly #block: Block;
  readonly #width: Width;
  readonly #inputs: readonly string[];
  readonly #prefix: string;
  readonly #precision: Precision;
  readonly #known = new Map<string, string>();

  /**
   * `inputs` are the registers of the expression's inputs, each of the expression's type and of `width` lanes. `precision`: what
   * functions need to be good for, by where the result is stored.
   */
  constructor(module: ModuleBuilder, block: Block, width: Width, inputs: readonly string[], { prefix = 't', precision = 'single' }: { readonly prefix?: string; readonly precision?: Precision } = {}) {
    this.#module = module;
    this.#block = block;
    this.#width = width;
    this.#inputs = inputs;
    this.#prefix = prefix;
    this.#precision = precision;
  }

  /** `rounded`: what becomes of it is rounded to a whole number, which makes of the last digit's error a whole one. */
  emit(expr: Expr, rounded = false): string {
    if (expr.kind === 'input') return this.#inputs[expr.index]!;
    const { code, dtype } = this.#code(expr, rounded || toWhole(expr));
    const known = this.#known.get(code);
    if (known !== undefined) return known;
    const name = this.#block.let(`${this.#prefix}${this.#known.size}`, wrapNarrow(code, expr, dtype, this.#width));
    this.#known.set(code, name);
    return name;
  }

  #code(expr: Exclude<Expr, { kind: 'input' }>, rounded: boolean): { code: string; dtype: DType } {
    const dtype = exprDtype(expr);
    switch (expr.kind) {
      case 'const':
        // A `let` keeps Tint from folding it: a folded division by zero or overflow would not compile.
        return { code: this.#splat(literal(this.#module, expr.value, registerType(dtype)), registerType(dtype)), dtype };
      case 'unary':
        return { code: this.#unary(expr.fn, this.emit(expr.x, rounded), exprDtype(expr.x)), dtype };
      case 'binary':
        return { code: this.#binary(expr, rounded), dtype };
      case 'select':
        return { code: `select(${this.emit(expr.b, rounded)}, ${this.emit(expr.a, rounded)}, ${this.emit(expr.condition, rounded)})`, dtype };
      case 'cast':
        return { code: isFewBitsFloat(dtype) ? this.#toFewBits(this.emit(expr.x, rounded), exprDtype(expr.x), dtype, expr) : this.#cast(this.emit(expr.x, rounded), exprDtype(expr.x), dtype), dtype };
      default:
        return expr satisfies never;
    }
  }

  #splat(code: string, scalar: Scalar): string {
    return this.#width === 1 ? code : `${typeName(scalar, 4)}(${code})`;
  }

  #constant(value: number, scalar: Scalar): string {
    return this.#splat(literal(this.#module, value, scalar), scalar);
  }

  #help(name: 'is_nan' | 'is_posinf' | 'is_neginf' | 'erf1' | 'erf_half' | 'erf_byte' | 'exp_half' | 'tanh1' | 'pow1' | 'irem' | 'imod' | 'cfmod' | 'fmodf' | 'quotient1' | 'ipow' | 'asinh1' | 'acosh1' | 'atanh1' | 'exp1' | 'log1' | 'sin1' | 'cos1' | 'tan1' | 'round_bfloat16'): string {
    return this.#module.helper(this.#width === 1 ? name : `${name}4`);
  }

  #unary(fn: UnaryFn, x: string, dtype: DType): string {
    const scalar = registerType(dtype);
    switch (fn) {
      case 'neg':
        return scalar === 'u32' ? `(~${x} + ${this.#constant(1, 'u32')})` : `-${x}`;
      case 'not':
        return `!${x}`;
      case 'exp':
        return `${this.#help(this.#precision === 'single' ? 'exp1' : 'exp_half')}(${x})`;
      case 'log':
        return `${this.#help('log1')}(${x})`;
      case 'bitnot':
        return `~${x}`;
      case 'reciprocal':
        return `${this.#constant(1, scalar)} / ${x}`;
      case 'sign':
        return scalar === 'u32' ? `min(${x}, ${this.#constant(1, 'u32')})` : `sign(${x})`;
      case 'erf':
        if (this.#precision === 'byte') return `${this.#help('erf_byte')}(${x})`;
        return `${this.#help(this.#precision === 'half' || dtype === 'float16' ? 'erf_half' : 'erf1')}(${x})`;
      case 'tanh':
        return `${this.#help('tanh1')}(${x})`;
      case 'asinh': case 'acosh': case 'atanh': case 'sin': case 'cos': case 'tan':
        return `${this.#help(`${fn}1`)}(${x})`;
      case 'isnan':
        return `${this.#help('is_nan')}(${x})`;
      case 'isposinf':
        return `${this.#help('is_posinf')}(${x})`;
      case 'isneginf':
        return `${this.#help('is_neginf')}(${x})`;
      case 'abs': case 'acos': case 'asin': case 'atan': case 'ceil': case 'cosh':
      case 'floor': case 'round': case 'sinh': case 'sqrt':
        return `${fn}(${x})`;
      default:
        return fn satisfies never;
    }
  }

  #binary(expr: Extract<Expr, { kind: 'binary' }>, rounded: boolean): string {
    const dtype = exprDtype(expr.a);
    const scalar = registerType(dtype);
    const a = this.emit(expr.a, rounded);
    if (expr.fn === 'pow') return this.#pow(a, scalar, expr.b);
    const b = this.emit(expr.b, rounded);
    switch (expr.fn) {
      case 'add': return `${a} + ${b}`;
      case 'sub': return `${a} - ${b}`;
      case 'mul': return `${a} * ${b}`;
      case 'div':
        return scalar === 'f32' && (rounded || this.#precision === 'single') ? `${this.#help('quotient1')}(${a}, ${b})` : `${a} / ${b}`;
      case 'min': return `min(${a}, ${b})`;
      case 'max': return `max(${a}, ${b})`;
      case 'mod':
        return scalar === 'u32' ? `${a} % ${b}` : `${this.#help(scalar === 'i32' ? 'imod' : 'fmodf')}(${a}, ${b})`;
      case 'fmod':
        return scalar === 'u32' ? `${a} % ${b}` : `${this.#help(scalar === 'i32' ? 'irem' : 'cfmod')}(${a}, ${b})`;
      case 'and': case 'bitand': return `${a} & ${b}`;
      case 'or': case 'bitor': return `${a} | ${b}`;
      case 'xor': return `${a} != ${b}`;
      case 'bitxor': return `${a} ^ ${b}`;
      case 'shl':
      case 'shr':
        return this.#shift(expr.fn, a, scalar, b, expr.b);
      case 'eq': return `${a} == ${b}`;
      case 'lt': return `${a} < ${b}`;
      case 'le': return `${a} <= ${b}`;
      case 'gt': return `${a} > ${b}`;
      case 'ge': return `${a} >= ${b}`;
      default:
        return expr.fn satisfies never;
    }
  }

  /** As in NumPy, a shift by the width or more (or by a negative number) leaves nothing, or only the sign. */
  #shift(fn: 'shl' | 'shr', a: string, scalar: Scalar, b: string, amount: Expr): string {
    const unsigned = registerType(exprDtype(amount)) === 'u32' ? b : `${typeName('u32', this.#width)}(${b})`;
    const bounded = `min(${unsigned}, ${this.#constant(31, 'u32')})`;
    if (fn === 'shr' && scalar === 'i32') return `${a} >> ${bounded}`;
    const shifted = fn === 'shl' ? `${a} << ${bounded}` : `${a} >> ${bounded}`;
    return `select(${shifted}, ${this.#constant(0, scalar)}, ${unsigned} > ${this.#constant(31, 'u32')})`;
  }

  #pow(a: string, scalar: Scalar, exponent: Expr): string {
    if (exponent.kind === 'const' && scalar === 'f32') {
      const { value } = exponent;
      if (value === 1) return a;
      if (value === 2) return `${a} * ${a}`;
      if (value === 3) return `${a} * ${a} * ${a}`;
      if (value === 0.5) return `sqrt(${a})`;
      if (value === -1) return `${this.#constant(1, 'f32')} / ${a}`;
    }
    const base = scalar === 'u32' ? `${typeName('i32', this.#width)}(${a})` : a;
    const type: DType = scalar === 'f32' ? 'float32' : 'int32';
    const power = this.emit(registerType(exprDtype(exponent)) === registerType(type) ? exponent : { kind: 'cast', to: type, x: exponent });
    if (scalar === 'f32') return `${this.#help('pow1')}(${base}, ${power})`;
    const result = `${this.#help('ipow')}(${base}, ${power})`;
    return scalar === 'u32' ? `${typeName('u32', this.#width)}(${result})` : result;
  }

  #cast(x: string, from: DType, to: DType): string {
    const [source, target] = [registerType(from), registerType(to)];
    // What equals zero, negated: compilers make a comparison that NaN fails of `!=`.
    if (target === 'bool') return source === 'bool' ? x : `!(${x} == ${this.#constant(0, source)})`;
    if (to === 'float16' && from !== 'float16') return this.#toFloat16(source === 'f32' ? x : `${typeName('f32', this.#width)}(${x})`);
    if (to === 'bfloat16' && from !== 'bfloat16') return `${this.#help('round_bfloat16')}(${source === 'f32' ? x : `${typeName('f32', this.#width)}(${x})`})`;
    if (source === target) return x;
    // Negative numbers wrap on their way to an unsigned type, as in C; WGSL alone would clamp them to zero.
    if (source === 'f32' && target === 'u32' && DTYPE_BITS[to] < 32) {
      return `${typeName('u32', this.#width)}(${typeName('i32', this.#width)}(${x}))`;
    }
    return `${typeName(target, this.#width)}(${x})`;
  }

  /** Rounds to a float of few bits, whose numbers an f32 holds. */
  #toFewBits(x: string, from: DType, to: FewBitsFloat, { overflow }: Extract<Expr, { kind: 'cast' }>): string {
    if (from === to) return x;
    const f32 = registerType(from) === 'f32' ? x : this.#cast(x, from, 'float32');
    return `${this.#module.helper(`${fewBitsHelper(to, overflow)}${this.#width === 1 ? '' : '4'}`)}(${f32})`;
  }

  /** Rounds to binary16; beyond its range, where `quantizeToF16` is indeterminate, gives infinity. */
  #toFloat16(x: string): string {
    const limit = this.#constant(65504, 'f32');
    const infinite = `sign(${x}) * ${this.#splat(`${this.#module.helper('inf')}()`, 'f32')}`;
    const finite = `select(quantizeToF16(clamp(${x}, -${limit}, ${limit})), ${infinite}, abs(${x}) >= ${this.#constant(65520, 'f32')})`;
    return `select(${finite}, ${x}, ${this.#help('is_nan')}(${x}))`;
  }
}

/** Whether it makes a whole number of a float, by rounding or by dropping what is behind the point. */
function toWhole(expr: Expr): boolean {
  if (expr.kind === 'unary') return expr.fn === 'round' || expr.fn === 'floor' || expr.fn === 'ceil';
  return expr.kind === 'cast' && registerType(expr.to) !== 'f32' && registerType(expr.to) !== 'bool';
}

const WRAPPING: ReadonlySet<string> = new Set(['add', 'sub', 'mul', 'div', 'pow', 'shl', 'neg', 'bitnot', 'abs']);

/** `code` brought back into the range of an 8- or 16-bit integer, where the operation can leave it. */
function wrapNarrow(code: string, expr: Expr, dtype: DType, width: Width): string {
  const leaves = expr.kind === 'cast' || ((expr.kind === 'unary' || expr.kind === 'binary') && WRAPPING.has(expr.fn));
  return leaves ? wrapInteger(dtype, code, width) : code;
}
