/**
 * Two engines of one model side by side, by the ONNX nodes that their layers came from.
 *
 * A layer that does the work of several nodes can't be divided among them: nodes that any layer of either engine joins form one group, so
 * that every layer belongs to one row and rows add up to the whole. What no node accounts for (copies, quantization at the border) is a
 * row of its own, and what the layers leave of the wall clock is stated.
 */
import { alignedGrid, type Grid, pipeGrid } from './grid.ts';
import type { ProfiledLayer, Roofline } from './roofline.ts';
import { formatNumber } from './units.ts';

/** One engine's part of a row. */
export interface NodeSide {
  readonly durationNs: number;
  /** Kinds of its layers with their precision and tactic, each once, in their order. */
  readonly kernels: readonly string[];
}

export interface NodeRow {
  /** Names of the ONNX nodes; empty for layers of no node. */
  readonly nodes: readonly string[];
  readonly before: NodeSide;
  readonly after: NodeSide;
}

export interface NodeComparison {
  readonly titles: { readonly before: string; readonly after: string };
  /** In the order of the first engine's layers; layers of no node last. */
  readonly rows: readonly NodeRow[];
  /** Sum of the rows, one execution by the wall clock, and what lies between. */
  readonly totals: { readonly before: Totals; readonly after: Totals };
}

type Totals = Pick<Roofline, 'kernelNs' | 'wallNs' | 'residualNs'>;

interface Profiled {
  readonly title: string;
  readonly roofline: Pick<Roofline, 'kernelNs' | 'wallNs' | 'residualNs'> & { readonly rows: readonly Pick<ProfiledLayer, 'kind' | 'precision' | 'tactic' | 'durationNs' | 'origins'>[] };
}

export function compareByNode(before: Profiled, after: Profiled): NodeComparison {
  const leader = joined([...before.roofline.rows, ...after.roofline.rows].map(({ origins = [] }) => origins));
  const groups = new Map<string | undefined, Set<string>>();
  const sides = { before: new Map<string | undefined, NodeSide>(), after: new Map<string | undefined, NodeSide>() };
  for (const [side, { roofline }] of [['before', before], ['after', after]] as const) {
    for (const { origins = [], kind, precision, tactic, durationNs } of roofline.rows) {
      const key = origins[0] === undefined ? undefined : leader(origins[0]);
      const nodes = groups.get(key) ?? new Set();
      groups.set(key, nodes);
      for (const origin of origins) nodes.add(origin);
      const known = sides[side].get(key) ?? NOTHING;
      sides[side].set(key, { durationNs: known.durationNs + durationNs, kernels: [...new Set([...known.kernels, [kind, precision, ...(tactic === undefined ? [] : [`(${tactic})`])].join(' ')])] });
    }
  }
  const order = [...groups].filter(([key]) => key !== undefined);
  if (groups.has(undefined)) order.push([undefined, new Set()]);
  const totals = ({ roofline: { kernelNs, wallNs, residualNs } }: Profiled): Totals => ({ kernelNs, wallNs, residualNs });
  return {
    titles: { before: before.title, after: after.title },
    rows: order.map(([key, nodes]): NodeRow => ({ nodes: [...nodes], before: sides.before.get(key) ?? NOTHING, after: sides.after.get(key) ?? NOTHING })),
    totals: { before: totals(before), after: totals(after) },
  };
}

const NOTHING: NodeSide = { durationNs: 0, kernels: [] };

/** By node, the one that stands for all that are joined to it (union–find). */
function joined(sets: readonly (readonly string[])[]): (node: string) => string {
  const parent = new Map<string, string>();
  const find = (node: string): string => {
    let at = node;
    while ((parent.get(at) ?? at) !== at) at = parent.get(at)!;
    parent.set(node, at);
    return at;
  };
  for (const [first, ...others] of sets) for (const other of others) parent.set(find(other), find(first!));
  return find;
}

/** Names shown of a group. */
const NAMED = 3;

export function renderNodeComparison({ titles, rows, totals }: NodeComparison, format: 'table' | 'markdown'): string {
  const us = (ns: number): string => formatNumber(ns / 1000);
  const name = ({ nodes }: NodeRow): string => (nodes.length === 0 ? '(no node of the model)' : nodes.slice(0, NAMED).join(' + ') + (nodes.length > NAMED ? ` + ${nodes.length - NAMED} more` : ''));
  const ratio = (a: number, b: number): string => (a > 0 && b > 0 ? `${formatNumber(a / b)}×` : '–');
  const kernels = ({ kernels: found }: NodeSide): string => found.join(', ') || '–';
  const line = (label: string, a: number, b: number): string[] => [label, us(a), us(b), ratio(a, b), '', ''];
  const { before, after } = totals;
  const grid: Grid = {
    heads: ['nodes', 'before µs', 'after µs', 'faster', 'before', 'after'],
    aligns: ['left', 'right', 'right', 'right', 'left', 'left'],
    rows: [
      ...rows.map((row) => [name(row), us(row.before.durationNs), us(row.after.durationNs), ratio(row.before.durationNs, row.after.durationNs), kernels(row.before), kernels(row.after)]),
      line('all layers', before.kernelNs, after.kernelNs),
      [`rest of the wall clock`, us(before.residualNs), us(after.residualNs), '', '', ''],
      line('one execution', before.wallNs, after.wallNs),
    ],
  };
  return [`before   ${titles.before}`, `after    ${titles.after}`, '', format === 'table' ? alignedGrid(grid) : pipeGrid(grid)].join('\n');
}
