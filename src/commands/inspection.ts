/** An inspection as lines for people. */
import type { EngineHeader } from '../engine/engine.ts';
import { describeShares, precisionShares } from '../engine/precision.ts';
import { alignedGrid } from '../report/grid.ts';
import { formatBytes, formatNumber, plural } from '../report/units.ts';
import type { EngineInspection, Inspection, ModelInspection } from '../workflows/inspect.ts';
import { describeTactics, describeTuning } from './tactics.ts';

export interface InspectionDetail {
  readonly passes: boolean;
  readonly layers: boolean;
  readonly tactics: boolean;
}

/** `engine` is the header of the engine file, or of what the backend builds from the model. */
export function describeInspection(inspection: Inspection, engine: EngineHeader | undefined, detail: InspectionDetail): string[] {
  const lines = inspection.kind === 'model' ? describeModel(inspection) : describeFile(inspection);
  if (!engine) return lines;
  lines.push('', ...describeEngine(engine));
  if (detail.passes) lines.push('', ...describePasses(engine));
  if (detail.layers && engine.layers.length > 0) lines.push('', ...describeLayers(engine));
  if (detail.tactics) lines.push('', ...describeTactics(engine));
  if (!detail.passes && !detail.layers && !detail.tactics) lines.push('', '--passes shows what each pass did, --layers every layer, --tactics which kernels were chosen.');
  return lines;
}

function describeModel(model: ModelInspection): string[] {
  const opsets = Object.entries(model.opsets).map(([domain, version]) => `${domain} ${version}`);
  const type = ({ dtype, dims }: ModelInspection['inputs'][number]) => `${dtype}${dims ? `[${dims.join(',')}]` : ''}`;
  const flops = model.flops === undefined ? '' : `, ${formatFlops(model.flops)} at batch ${model.options.batch}`;
  const lines = [
    `model    ${model.name || model.file}${model.producer ? `, written by ${model.producer}` : ''}; opset ${opsets.join(', ')}`,
    ...model.inputs.map((input) => `input    ${input.name} ${type(input)}`),
    ...model.outputs.map((output) => `output   ${output.name} ${type(output)}`),
    `size     ${plural(model.nodes, 'node')}, ${formatNumber(model.parameters / 1e6)} M parameters, ${formatBytes(model.weightBytes)} of weights${flops}`,
    alignedGrid({
      heads: ['op', 'nodes', 'operations', 'bytes moved'],
      aligns: ['left', 'right', 'right', 'right'],
      rows: model.ops.map(({ op, count, flops, bytes }) => [
        op,
        String(count),
        flops === undefined ? '–' : formatFlops(flops),
        bytes === undefined ? '–' : formatBytes(bytes),
      ]),
    }),
  ];
  for (const { op, plugin, gives, missing } of model.customOps) {
    lines.push(`custom   ${op}, of plugin ${plugin}: ${gives.join('; ') || 'types and reference only'}`, ...missing.map((text) => `         ${text}`));
  }
  const { refusal } = model;
  if (refusal) {
    lines.push('', `The backend ${model.options.backend} can't build this model: ${refusal.message}`, ...(refusal.details ?? []).map((detail) => `  ${detail}`));
    if (refusal.fix !== undefined) lines.push(`fix: ${refusal.fix}`);
  }
  if (model.unsupported.length === 0) return lines;
  lines.push('', `The backend ${model.options.backend} can't build this model:`);
  lines.push(...model.unsupported.map(({ op, node, reason }) => `  ${op} '${node}': ${reason}`));
  return lines;
}

function describeFile({ file, fileBytes, parts }: EngineInspection): string[] {
  return [`engine   ${file}, ${formatBytes(fileBytes)}`, ...parts.map(({ name, bytes }) => `part     ${name} ${formatBytes(bytes)}`)];
}

/** Of a model that runs unchanged. */
const UNKNOWN_LAYERS = "the backend's own; profile shows them with their times";

function describeEngine(engine: EngineHeader): string[] {
  const { options, memory, requires } = engine;
  const extras = Object.entries(options.backendOptions).map(([key, value]) => `, ${key} ${value}`);
  const kinds = new Map<string, number>();
  for (const { kind } of engine.layers) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  const needs = Object.entries(requires).map(([key, value]) => `${key} ${value}`);
  const shares = precisionShares(engine.layers);
  return [
    `built    for ${engine.backend}: ${options.precision}, fusion ${options.fusion}, batch ${options.batch}${extras.join('')}; tsrt-bench ${engine.tool.version}`,
    `from     ${engine.model.name} (sha256 ${engine.model.sha256.slice(0, 16)}…)`,
    ...engine.inputs.map(({ name, dtype, dims }) => `input    ${name} ${dtype}[${dims.join(',')}]`),
    ...(engine.pixels ?? []).map(({ input, layout }) => `pictures ${input}: bytes by rows, normalized and put in ${layout} by the engine`),
    ...engine.outputs.map(({ name, dtype, dims }) => `output   ${name} ${dtype}[${dims.join(',')}]`),
    `layers   ${engine.layers.length === 0 ? UNKNOWN_LAYERS : `${engine.layers.length}: ${[...kinds].sort((a, b) => b[1] - a[1]).map(([kind, count]) => `${count} ${kind}`).join(', ')}`}`,
    ...(shares ? [`runs in  ${describeShares(shares)} (share of the operations; --layers has each)`] : []),
    `memory   weights ${formatBytes(memory.weightBytes)}, activations ${formatBytes(memory.activationBytes)}, workspace ${formatBytes(memory.workspaceBytes)}, staging ${formatBytes(memory.stagingBytes)}`,
    `needs    ${needs.length > 0 ? needs.join('; ') : 'any device of the backend'}`,
    ...(engine.tactics?.tuning ? [`tuned    ${describeTuning(engine.tactics.tuning)}`] : []),
    ...(engine.plugins ?? []).map(({ name, version, sha256 }) => `plugin   ${name} ${version} (sha256 ${sha256.slice(0, 16)}…), needed to load the engine`),
    ...engine.notices.map((notice) => `note     ${notice}`),
  ];
}

function describePasses(engine: EngineHeader): string[] {
  const rows = engine.passes.map(({ pass, nodesBefore, nodesAfter, rewrites }) => [
    pass,
    `${nodesBefore} → ${nodesAfter}`,
    Object.entries(rewrites).map(([rule, count]) => `${rule} ×${count}`).join(', ') || '–',
  ]);
  return [alignedGrid({ heads: ['pass', 'nodes', 'rewrites'], aligns: ['left', 'right', 'left'], rows })];
}

function describeLayers(engine: EngineHeader): string[] {
  const rows = engine.layers.map(({ name, kind, precision, origins, flops, bytes, tactic }) => [
    name,
    kind,
    precision,
    formatFlops(flops),
    formatBytes(bytes),
    tactic ?? '–',
    origins.join(' + '),
  ]);
  const heads = ['layer', 'kind', 'precision', 'operations', 'bytes', 'tactic', 'from'];
  return [alignedGrid({ heads, aligns: ['left', 'left', 'left', 'right', 'right', 'left', 'left'], rows })];
}

/** `8.18 GFLOP`. */
function formatFlops(flops: number): string {
  const units = ['FLOP', 'kFLOP', 'MFLOP', 'GFLOP', 'TFLOP'];
  const step = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, flops)) / 3)));
  return `${step === 0 ? String(flops) : formatNumber(flops / 1000 ** step)} ${units[step]}`;
}
