/**
 * A small builder for WGSL compute modules: bindings, workgroup memory, helper functions and an indented body.
 *
 * Templates describe a kernel with it; nothing patches generated text afterwards. Two traps it guards against, both seen with
 * the `webgpu` package 0.6.2: a `var` without an initializer inside a loop keeps its value from the iteration before (so
 * {@link Block.var} always takes one), and runtime-sized arrays cost a length query and a clamp per access (so every binding
 * is a sized array).
 */
import type { Access } from '../../../engine/plan.ts';
import { HELPERS, type HelperName } from './helpers.ts';

export type Scalar = 'f32' | 'f16' | 'i32' | 'u32' | 'bool';

/** Elements per value in a register: a scalar or a vec4. */
export type Width = 1 | 4;

/** `f32` or `vec4<f32>`. */
export function typeName(scalar: Scalar, width: Width | 2): string {
  return width === 1 ? scalar : `vec${width}<${scalar}>`;
}

/** What a finished module tells the plan. */
export interface KernelSource {
  readonly label: string;
  readonly wgsl: string;
  readonly access: readonly Access[];
  /** Invocations per workgroup, for the device's limits. */
  readonly invocations: number;
  readonly workgroupBytes: number;
}

const SCALAR_BYTES = { f32: 4, f16: 2, i32: 4, u32: 4, bool: 4 } as const satisfies Record<Scalar, number>;

/** Statements at one depth of indentation. */
export class Block {
  readonly lines: string[] = [];
  readonly #depth: number;

  constructor(depth: number) {
    this.#depth = depth;
  }

  /** A statement, without its semicolon. */
  line(statement: string): void {
    this.lines.push(`${'  '.repeat(this.#depth)}${statement};`);
  }

  /** A line as it is: code that came whole. */
  raw(code: string): void {
    this.lines.push(`${'  '.repeat(this.#depth)}${code}`);
  }

  let(name: string, value: string): string {
    this.line(`let ${name} = ${value}`);
    return name;
  }

  var(name: string, value: string): string {
    this.line(`var ${name} = ${value}`);
    return name;
  }

  if(condition: string, then: (block: Block) => void, otherwise?: (block: Block) => void): void {
    this.#nest(`if (${condition})`, then);
    if (otherwise) this.#nest('else', otherwise);
  }

  /** A block of its own: names that it declares end with it. */
  scope(body: (block: Block) => void): void {
    this.#nest('', body);
  }

  /** `for (var name = from; name < to; name += step)` over u32. */
  for(name: string, from: string, to: string, step: string, body: (block: Block) => void): void {
    this.#nest(`for (var ${name} = ${from}; ${name} < ${to}; ${name} += ${step})`, body);
  }

  #nest(head: string, body: (block: Block) => void): void {
    const inner = new Block(this.#depth + 1);
    body(inner);
    const indent = '  '.repeat(this.#depth);
    this.lines.push(`${indent}${head === '' ? '' : `${head} `}{`, ...inner.lines, `${indent}}`);
  }
}

/** Builtins that {@link ModuleBuilder.main} passes: `wid`, `lid` (flat), `gid` and `groups`. */
const MAIN_BUILTINS = [
  '@builtin(workgroup_id) wid: vec3<u32>',
  '@builtin(local_invocation_index) lid: u32',
  '@builtin(num_workgroups) groups: vec3<u32>',
] as const;

/** WGSL extensions that kernels use; `subgroups` also passes `sgid`, see {@link ModuleBuilder.subgroups}. */
export type Extension = 'f16' | 'subgroups' | 'subgroup_size_control' | 'chromium_experimental_subgroup_matrix';

export class ModuleBuilder {
  readonly #label: string;
  readonly #reads: Exclude<Access, 'read_write'>;
  readonly #declarations: string[] = [];
  readonly #access: Access[] = [];
  readonly #helpers = new Set<HelperName>();
  readonly #extensions = new Set<Extension>();
  readonly #diagnostics = new Set<string>();
  #workgroupBytes = 0;
  #lanes = false;
  #main: { readonly invocations: number; readonly block: Block; readonly subgroupSize: number | undefined } | undefined;

  /**
   * `reads`: how buffers are bound that are only read. NVIDIA's compiler moves loads from read-only buffers to where their values are needed, behind
   * the barriers and stores between; what a kernel loads ahead across its stores has to be `read_ordered`.
   */
  constructor(label: string, reads: Exclude<Access, 'read_write'> = 'read') {
    this.#label = label;
    this.#reads = reads;
  }

  /** Binds `count` values of the type at the next slot of group 0. */
  storage(name: string, scalar: Exclude<Scalar, 'bool'>, width: Width | 2, count: number, access: Access): string {
    this.#note(scalar);
    const bound = access === 'read' ? this.#reads : access;
    const slot = this.#access.push(bound) - 1;
    const qualifier = bound === 'read' ? 'storage, read' : 'storage, read_write';
    this.#declarations.push(`@group(0) @binding(${slot}) var<${qualifier}> ${name}: array<${typeName(scalar, width)}, ${count}>;`);
    return name;
  }

  /** Declarations that came whole: functions, constants, workgroup variables. */
  declare(code: string): void {
    this.#declarations.push(code);
  }

  workgroup(name: string, scalar: Scalar, width: Width | 2, count: number): string {
    this.#note(scalar);
    this.#workgroupBytes += SCALAR_BYTES[scalar] * width * count;
    this.#declarations.push(`var<workgroup> ${name}: array<${typeName(scalar, width)}, ${count}>;`);
    return name;
  }

  /** Makes a helper function of helpers.ts available, with those it needs, and returns its name. */
  helper(name: HelperName): string {
    for (const needed of HELPERS[name].needs) this.helper(needed);
    this.#helpers.add(name);
    return name;
  }

  #note(scalar: Scalar): void {
    if (scalar === 'f16') this.enable('f16');
  }

  /** A language extension that the kernel uses; the device must have the feature of that name. */
  enable(extension: Extension): void {
    this.#extensions.add(extension);
  }

  /** The invocation's lane in its subgroup, and the subgroup's number in its workgroup: names of builtins. */
  subgroups(): { readonly lane: string; readonly number: string } {
    this.enable('subgroups');
    this.#lanes = true;
    return { lane: 'sglane', number: 'sgid' };
  }

  /** Switches off a diagnostic of Dawn's that the kernel knows better than. */
  allow(diagnostic: string): void {
    this.#diagnostics.add(diagnostic);
  }

  /** The entry point: a flat workgroup of `invocations`, in subgroups of `subgroupSize` where the kernel demands one. */
  main(invocations: number, body: (block: Block) => void, subgroupSize?: number): void {
    const block = new Block(1);
    body(block);
    if (subgroupSize !== undefined) this.enable('subgroup_size_control');
    this.#main = { invocations, block, subgroupSize };
  }

  finish(): KernelSource {
    if (!this.#main) throw new Error(`kernel ${this.#label} has no entry point`);
    const { invocations, block, subgroupSize } = this.#main;
    const builtins = [
      ...MAIN_BUILTINS,
      ...(this.#extensions.has('subgroups') ? ['@builtin(subgroup_id) sgid: u32'] : []),
      ...(this.#lanes ? ['@builtin(subgroup_invocation_id) sglane: u32'] : []),
    ];
    const directives = [...[...this.#extensions].map((name) => `enable ${name};`), ...[...this.#diagnostics].map((name) => `diagnostic(off, ${name});`)];
    const parts = [
      ...(directives.length > 0 ? [...directives, ''] : []),
      ...this.#declarations,
      '',
      ...[...this.#helpers].map((name) => HELPERS[name].code),
      `@compute @workgroup_size(${invocations})${subgroupSize === undefined ? '' : ` @subgroup_size(${subgroupSize})`}`,
      `fn main(${builtins.join(', ')}) {`,
      ...block.lines,
      '}',
      '',
    ];
    return { label: this.#label, wgsl: parts.join('\n'), access: this.#access, invocations, workgroupBytes: this.#workgroupBytes };
  }
}
