/** What is wrong with an op as its plugin declares it, beyond the types of its fields: names that lead nowhere, parts that can't take effect. */
import type { CustomOp, PatternExpr } from '../ir/custom.ts';
import { nearest } from '../nearest.ts';
import { OPS } from './table.ts';

export interface OpFault {
  /** Within the op. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

export function opFaults(op: CustomOp): readonly OpFault[] {
  return [...standardFaults(op), ...nameFaults(op), ...sizeFaults(op), ...kernelFaults(op), ...int8Faults(op), ...patternFaults(op)];
}

function known(name: string, names: readonly string[]): string {
  const guess = nearest(name, names);
  return guess === undefined ? `known: ${names.join(', ') || 'none'}` : `did you mean '${guess}'?`;
}

/** An op of ONNX itself is never looked for among a plugin's. */
function standardFaults({ domain, name }: CustomOp): OpFault[] {
  if (domain === 'ai.onnx') return [{ path: ['domain'], message: "ONNX's own domain is written ''" }];
  return domain === '' && Object.hasOwn(OPS, name) ? [{ path: ['name'], message: `${name} is a standard op, which a plugin can't replace: give the op a domain of its own` }] : [];
}

/** Buffers of a kernel and values of the kit have the operands' names. */
function nameFaults({ inputs, outputs }: CustomOp): OpFault[] {
  const seen = new Set<string>();
  const faults: OpFault[] = [];
  const check = (name: string, path: readonly (string | number)[]): void => {
    if (seen.has(name)) faults.push({ path, message: `a second operand is called '${name}'` });
    seen.add(name);
  };
  for (const [index, { name }] of inputs.entries()) check(name, ['inputs', index, 'name']);
  for (const [index, name] of outputs.entries()) check(name, ['outputs', index]);
  return faults;
}

function sizeFaults({ inputs, sizes = {} }: CustomOp): OpFault[] {
  // Where sizes follow from others, any name may be one of the others.
  if (Object.values(sizes).some((spec) => typeof spec === 'function')) return [];
  const used = [...new Set(inputs.flatMap(({ dims }) => (dims === 'any' ? [] : dims.filter((dim) => typeof dim === 'string'))))];
  return Object.keys(sizes).flatMap((name) => (used.includes(name) ? [] : [{ path: ['sizes', name], message: `no input has a dimension of this name; ${known(name, used)}` }]));
}

/** What a kernel's body may call by these names is the tool's. */
export const KERNEL_NAMES: readonly string[] = ['i', 'lid', 'wid', 'groups'];

function kernelFaults({ dtypes, kernels = [], inputs, outputs }: CustomOp): OpFault[] {
  if (kernels.length === 0) return [];
  const taken = [...inputs.map(({ name }) => name), ...outputs].filter((name) => KERNEL_NAMES.includes(name));
  return [
    ...taken.map((name) => ({ path: ['kernels'], message: `an operand is called '${name}', which means something else in a kernel (${KERNEL_NAMES.join(', ')})` })),
    ...kernels.flatMap((kernel, index) => kernel.dtypes.filter((dtype) => inputs.some((input) => (input.dtype ?? 'T') === 'T') && !dtypes.includes(dtype)).map((dtype) => ({ path: ['kernels', index, 'dtypes'], message: `the op does not take ${dtype}; it takes ${dtypes.join(', ')}` }))),
  ];
}

function int8Faults({ int8, inputs, outputs }: CustomOp): OpFault[] {
  if (!int8) return [];
  const beyond = (int8.inputs ?? [0]).filter((index) => index >= inputs.length);
  return [
    ...(outputs.length === 1 ? [] : [{ path: ['int8'], message: `an op between int8 ops has one output, here ${outputs.length}` }]),
    ...beyond.map((index) => ({ path: ['int8', 'inputs'], message: `there is no input ${index}: the op has ${inputs.length}, counted from 0` })),
  ];
}

function patternFaults({ patterns = [], inputs, outputs }: CustomOp): OpFault[] {
  return patterns.flatMap(({ match, inputs: names }, index): OpFault[] => {
    const bound = new Set<string>();
    const foreign: string[] = [];
    visit(match, (part) => {
      if ('name' in part && part.name !== undefined) bound.add(part.name);
      if (part.kind === 'op' && !Object.hasOwn(OPS, part.op)) foreign.push(part.op);
    });
    const path = ['patterns', index];
    return [
      ...(outputs.length === 1 ? [] : [{ path, message: `a pattern stands for an op with one output, here ${outputs.length}` }]),
      ...(match.kind === 'op' || match.kind === 'either' ? [] : [{ path: [...path, 'match'], message: 'a pattern ends in an op: op(\'Add\', …)' }]),
      ...foreign.map((op) => ({ path: [...path, 'match'], message: `'${op}' is not an op of the graph; ${known(op, Object.keys(OPS))}` })),
      ...names.filter((name) => name !== '' && !bound.has(name)).map((name) => ({ path: [...path, 'inputs'], message: `the pattern binds no '${name}'; ${known(name, [...bound])}` })),
      ...(names.length <= inputs.length ? [] : [{ path: [...path, 'inputs'], message: `the op has ${inputs.length} inputs, here ${names.length}` }]),
    ];
  });
}

function visit(expr: PatternExpr, look: (part: PatternExpr) => void): void {
  look(expr);
  const parts: unknown = expr.kind === 'op' ? expr.inputs : expr.kind === 'either' ? expr.options : [];
  if (Array.isArray(parts)) for (const part of parts as readonly PatternExpr[]) visit(part, look);
}
