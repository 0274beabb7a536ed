/**
 * Convolutions and matrix products take in the elementwise tree that hangs off them: bias, activation, residual.
 *
 * Starting from the accumulator, the epilogue grows while everything that reads the value so far is elementwise, has the
 * output's shape, and comes together again in one value; so `x·σ(x)` is taken in whole, and a branch that leaves the tree
 * stops it. An operand from outside can't depend on the accumulator then, which keeps the graph free of cycles.
 * Prior art: CUTLASS's epilogue visitor trees, TensorRT's CBA (convolution, bias, activation) fusion.
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { Expr } from '../ir/expr.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import type { OpAttrs } from '../ir/ops.ts';
import { sameDims } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { dependsOn } from './depends.ts';
import { rulePass, type Pass } from './pass.ts';
import { isFusable, takeIn, type Region } from './region.ts';
import { FLOATS, isIdentityPerm } from './tensors.ts';

/** Operands of an epilogue beside the accumulator: with data, weights, bias and output they fill the portable eight bindings. */
export const MAX_EXTRAS = 4;
/** Nodes that one step may take in before it must have come together. */
const MAX_STEP = 16;

interface Epilogue {
  readonly expr: Expr;
  readonly extras: readonly ValueId[];
  /** The last node taken in, whose output the fused node gives. */
  readonly last: AnyNode;
  readonly nodes: readonly AnyNode[];
}

/** The largest epilogue that hangs off `accumulator`. */
export function growEpilogue(accumulator: ValueId, edit: GraphEditor): Epilogue | undefined {
  const type = edit.type(accumulator);
  const start: Expr = { kind: 'input', index: 0, dtype: type.dtype };
  let region: Region | undefined = { inputs: [accumulator], exprs: new Map([[accumulator, start]]), nodes: [] };
  let best: Epilogue | undefined;
  for (let value: ValueId | undefined = accumulator; value; ) {
    const step: { region: Region; exit: ValueId } | undefined = closeOver(value, region!, edit);
    if (!step) break;
    ({ region, exit: value } = step);
    const last = edit.producer(value)!;
    // Beside values of the accumulator's own type, an epilogue may end on a grid.
    if (!sameType(edit.type(value), type) && last.op !== 'QuantizeLinear') continue;
    const [, ...extras] = region.inputs;
    best = { expr: region.exprs.get(value)!, extras, last, nodes: region.nodes };
  }
  return best;
}

/** Takes in what reads `entry` until one value is left that is read outside. */
function closeOver(entry: ValueId, from: Region, edit: GraphEditor): { region: Region; exit: ValueId } | undefined {
  const { dims } = edit.type(entry);
  const open = new Set([entry]);
  let region = from;
  for (let taken = 0; taken < MAX_STEP; taken++) {
    const readers = new Set([...open].flatMap((id) => edit.consumers(id)).filter((node) => !region.nodes.includes(node)));
    if (![...readers].every((node) => isFusable(node, edit) && sameDims(edit.type(node.outputs[0]!).dims, dims))) return undefined;
    const ready = [...readers].find((node) => node.inputs.every((id) => !id || region.exprs.has(id) || !dependsOn(id, open, edit)));
    const next = ready && takeIn(region, ready, edit);
    if (!next || next.inputs.length > MAX_EXTRAS + 1) return undefined;
    region = next;
    open.add(ready.outputs[0]!);
    for (const id of open) if (isClosed(id, region, edit)) open.delete(id);
    if (open.size === 1 && !open.has(entry)) return { region, exit: [...open][0]! };
  }
  return undefined;
}

function isClosed(id: ValueId, region: Region, edit: GraphEditor): boolean {
  const readers = edit.consumers(id);
  return !edit.isOutput(id) && readers.length > 0 && readers.every((node) => region.nodes.includes(node));
}

// conv(x, w) + b |> elementwise tree = fusedconv(x, w, b, extras)
function fuseConv(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'Conv' || !FLOATS.has(edit.type(node.outputs[0]!).dtype)) return false;
  const epilogue = growEpilogue(node.outputs[0]!, edit);
  if (!epilogue) return false;
  edit.replaceNode(epilogue.last, {
    op: 'FusedConv',
    inputs: [node.inputs[0]!, node.inputs[1]!, node.inputs[2] ?? '', ...epilogue.extras],
    attrs: { ...node.attrs, epilogue: epilogue.expr },
    origins: unionOrigins(node, ...epilogue.nodes),
  });
  return true;
}

interface Product {
  readonly a: ValueId;
  readonly b: ValueId;
  readonly c: ValueId;
  readonly attrs: Omit<OpAttrs['FusedMatMul'], 'epilogue'>;
  /** The value that holds the product, and the nodes that it does the work of. */
  readonly value: ValueId;
  readonly nodes: readonly AnyNode[];
}

// alpha·a·b + c |> elementwise tree = fusedmatmul(a, b, c, extras)
function fuseMatMul(node: AnyNode, edit: GraphEditor): boolean {
  const plain = productOf(node, edit);
  if (!plain) return false;
  const product = takeBias(takeTransposes(plain, edit), edit);
  const epilogue = growEpilogue(product.value, edit);
  if (!epilogue && product.nodes.length === 1) return false;
  const accumulator: Expr = { kind: 'input', index: 0, dtype: edit.type(product.value).dtype };
  edit.replaceNode(epilogue?.last ?? edit.producer(product.value)!, {
    op: 'FusedMatMul',
    inputs: [product.a, product.b, product.c, ...(epilogue?.extras ?? [])],
    attrs: { ...product.attrs, epilogue: epilogue?.expr ?? accumulator },
    origins: unionOrigins(...product.nodes, ...(epilogue?.nodes ?? [])),
  });
  return true;
}

function productOf(node: AnyNode, edit: GraphEditor): Product | undefined {
  const value = node.outputs[0]!;
  const [a = '', b = '', c = ''] = node.inputs;
  if (!FLOATS.has(edit.type(value).dtype)) return undefined;
  if (node.op === 'MatMul') {
    if (edit.type(a).dims.length < 2 || edit.type(b).dims.length < 2) return undefined;
    return { a, b, c, attrs: { alpha: 1, transA: 0, transB: 0 }, value, nodes: [node] };
  }
  if (node.op !== 'Gemm' || (c && node.attrs.beta !== 1)) return undefined;
  const { alpha, transA, transB } = node.attrs;
  return { a, b, c, attrs: { alpha, transA, transB }, value, nodes: [node] };
}

/** a·swap(b) reads b transposed, where nothing else reads the transpose. */
function takeTransposes(product: Product, edit: GraphEditor): Product {
  const swapped = (id: ValueId): (AnyNode & { op: 'Transpose' }) | undefined => {
    const node = edit.producer(id);
    if (node?.op !== 'Transpose' || edit.onlyConsumer(id) !== product.nodes[0]) return undefined;
    const { perm } = node.attrs;
    const swappedBack = [...perm.slice(0, -2), perm.at(-1)!, perm.at(-2)!];
    return isIdentityPerm(swappedBack) ? node : undefined;
  };
  const [a, b] = [swapped(product.a), swapped(product.b)];
  const flip = (flag: 0 | 1, by: unknown): 0 | 1 => (by ? (flag ? 0 : 1) : flag);
  return {
    ...product,
    a: a?.inputs[0] ?? product.a,
    b: b?.inputs[0] ?? product.b,
    attrs: { ...product.attrs, transA: flip(product.attrs.transA, a), transB: flip(product.attrs.transB, b) },
    nodes: [...[a, b].filter((node) => node !== undefined), ...product.nodes],
  };
}

/** A vector added to every row goes where Gemm has its C, so that kernels see a bias as a bias. */
function takeBias(product: Product, edit: GraphEditor): Product {
  const add = edit.onlyConsumer(product.value);
  if (product.c || add?.op !== 'Add' || !sameType(edit.type(add.outputs[0]!), edit.type(product.value))) return product;
  const bias = add.inputs.find((id) => id !== product.value);
  if (!bias) return product;
  const { dims } = edit.type(bias);
  const isRow = dims.at(-1) === edit.type(product.value).dims.at(-1) && dims.slice(0, -1).every((dim) => dim === 1);
  return isRow ? { ...product, c: bias, value: add.outputs[0]!, nodes: [...product.nodes, add] } : product;
}

export const fuseConvEpilogues: Pass = rulePass(
  { name: 'fuse-conv', summary: 'convolution, bias, activation and residual as one kernel', targets: ['webgpu'] },
  [{ name: 'conv-epilogue', ops: ['Conv'], rewrite: fuseConv }],
);

export const fuseMatMulEpilogues: Pass = rulePass(
  { name: 'fuse-matmul', summary: 'matrix product, bias, activation and residual as one kernel', targets: ['webgpu'] },
  [{ name: 'matmul-epilogue', ops: ['Gemm', 'MatMul'], rewrite: fuseMatMul }],
);
