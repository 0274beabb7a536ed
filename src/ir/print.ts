/**
 * Graphs and expressions as text: deterministic, so that prints can be compared as snapshots.
 *
 * Prior art: jax's pprint and MLIR's generic form; one line per node, constants by type and digest unless they are small.
 */
import type { CustomDefinition, PluginStamp } from './custom.ts';
import type { Expr, ExprPart, JoinedExprs } from './expr.ts';
import { consumers, typeOf, type AnyNode, type Graph } from './graph.ts';
import { elementCount, formatType, toNumbers, type Tensor } from './tensor.ts';

/** Constants up to this many elements are printed by value. */
const PRINTED_ELEMENTS = 8;

/** One line per input, used constant, node and output. */
export function printGraph(graph: Graph): string {
  const used = consumers(graph);
  const outputs = new Set(graph.outputs);
  const lines = [`graph ${graph.name}`];
  for (const id of graph.inputs) lines.push(`  input ${id}: ${formatType(typeOf(graph, id))}`);
  for (const [id, tensor] of graph.constants) {
    if (used.has(id) || outputs.has(id)) lines.push(`  constant ${id}: ${formatType(tensor)} = ${formatTensor(tensor)}`);
  }
  for (const node of graph.nodes) lines.push(`  ${printNode(graph, node)}`);
  for (const id of graph.outputs) lines.push(`  output ${id}: ${formatType(typeOf(graph, id))}`);
  return `${lines.join('\n')}\n`;
}

/** `y: float32[1,8] = Conv(x, w) {group=1} @conv1`; origins follow where they differ from the node's name. */
export function printNode(graph: Graph, node: AnyNode): string {
  const results = node.outputs.map((id) => (id ? `${id}: ${formatType(typeOf(graph, id))}` : '_')).join(', ');
  const args = node.inputs.map((id) => id || '_').join(', ');
  const attrs = formatAttrs(node.attrs);
  const foreign = node.origins.length !== 1 || node.origins[0] !== node.name;
  const origins = foreign ? ` <- ${node.origins.join(' ')}` : '';
  return `${results} = ${node.op}(${args})${attrs} @${node.name}${origins}`;
}

/** Attributes in alphabetical order; those without a value are left out. */
function formatAttrs(attrs: object): string {
  const parts = Object.entries(attrs)
    .filter(([, value]) => value !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${formatAttr(name, value)}`);
  return parts.length > 0 ? ` {${parts.join(', ')}}` : '';
}

function formatAttr(name: string, value: unknown): string {
  if (name === 'definition') return formatStamp((value as CustomDefinition).plugin);
  if (name === 'epilogue') return formatExpr(value as Expr);
  if (name === 'exprs') return `[${(value as readonly Expr[]).map(formatExpr).join('; ')}]`;
  if (name === 'joined') return `[${(value as readonly JoinedExprs[]).map(formatJoined).join('; ')}]`;
  if (typeof value === 'string') return value;
  return JSON.stringify(value, (_, inner: unknown) => (inner instanceof Uint8Array ? `#${digest(inner)}` : inner));
}

/** `axis 3: [0:8] neg(x0), [8:16] x1`; of parts in turn with their steps. */
function formatJoined({ axis, parts }: JoinedExprs): string {
  const place = ({ start, step, extent }: ExprPart): string => `[${start}:${start + extent * step}${step === 1 ? '' : `:${step}`}]`;
  return `axis ${axis}: ${parts.map((part) => `${place(part)} ${formatExpr(part.expr)}`).join(', ')}`;
}

function formatStamp({ name, version }: PluginStamp): string {
  return `${name}@${version}`;
}

function formatTensor(tensor: Tensor): string {
  if (elementCount(tensor.dims) > PRINTED_ELEMENTS) return `#${digest(tensor.data)}`;
  const values = toNumbers(tensor).map(formatNumber);
  return tensor.dims.length === 0 ? values.join() : `[${values.join(', ')}]`;
}

function formatNumber(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

/** FNV-1a, 32 bits (http://www.isthe.com/chongo/tech/comp/fnv/): tells constants apart in a print, no more. */
function digest(bytes: Uint8Array): string {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}

const INFIX: Partial<Record<string, string>> = {
  add: '+',
  sub: '-',
  mul: '*',
  div: '/',
  and: '&&',
  or: '||',
  eq: '==',
  lt: '<',
  le: '<=',
  gt: '>',
  ge: '>=',
};

/** `max((x0 + x1), 0)`; inputs are `x<index>`, casts name their type, and how they overflow where that is not the usual way. */
export function formatExpr(expr: Expr): string {
  switch (expr.kind) {
    case 'input':
      return `x${expr.index}`;
    case 'const':
      return formatNumber(expr.value);
    case 'unary':
      return `${expr.fn}(${formatExpr(expr.x)})`;
    case 'binary': {
      const infix = INFIX[expr.fn];
      const [a, b] = [formatExpr(expr.a), formatExpr(expr.b)];
      return infix ? `(${a} ${infix} ${b})` : `${expr.fn}(${a}, ${b})`;
    }
    case 'select':
      return `select(${formatExpr(expr.condition)}, ${formatExpr(expr.a)}, ${formatExpr(expr.b)})`;
    case 'cast':
      return `${expr.to}${expr.overflow ? `<${expr.overflow.saturate},${expr.overflow.round_mode}>` : ''}(${formatExpr(expr.x)})`;
    default:
      return expr satisfies never;
  }
}
