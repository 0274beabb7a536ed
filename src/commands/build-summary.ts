/** What `build` prints of the engines that it wrote. */
import type { EngineHeader } from '../engine/engine.ts';
import { formatBytes, formatNumber } from '../report/units.ts';
import { shellWord } from '../text.ts';
import type { BuildResult } from '../workflows/build.ts';
import type { MissingEngine, SuiteBuildResult, WrittenEngine } from '../workflows/build-suite.ts';
import { describeTimes } from './build-times.ts';

type EngineFacts = Pick<BuildResult, 'file' | 'bytes' | 'sha256'>;

const engineLine = ({ file, bytes, sha256 }: EngineFacts): string => `engine   ${file} (${formatBytes(bytes)}, sha256 ${sha256.slice(0, 16)}…)`;

const inspectLine = ({ file }: Pick<EngineFacts, 'file'>): string => `next     tsrt-bench inspect ${shellWord(file)}`;

export async function describeBuild(result: BuildResult): Promise<string[]> {
  const { header, unproven } = result;
  return [
    engineLine(result),
    `built    ${header.layers.length} layers in ${describeTimes(result)}`,
    ...(await describeHeader(header)),
    ...(unproven === undefined ? [] : [`warning  ${unproven}, which \`run\` fails; \`inspect --layers\` shows where`]),
    inspectLine(result),
  ];
}

/** One engine as `build` of a model shows it; of several a line each. */
export async function describeSuiteBuild({ engines, missing }: SuiteBuildResult): Promise<string[]> {
  const [first] = engines;
  const written = first && engines.length === 1 ? [engineLine(first), builtLine(first), ...(await describeHeader(first.header))] : engines.map(engineLine);
  return [...written, ...missing.flatMap(missingLines), ...(first ? [inspectLine(first)] : [])];
}

function builtLine({ variant, batch, buildMs, header }: WrittenEngine): string {
  return `built    ${variant} at batch ${batch}: ${header.layers.length} layers in ${formatNumber(buildMs / 1000)} s`;
}

function missingLines({ status, variant, batch, error: { message, details = [], fix } }: MissingEngine): string[] {
  return [`${status.padEnd(8)} ${variant} at batch ${batch}: ${message}`, ...details.map((detail) => `${' '.repeat(9)}${detail}`), ...(fix === undefined ? [] : [`${' '.repeat(9)}fix: ${fix}`])];
}

async function describeHeader({ requires, inputs, outputs, tactics, notices }: EngineHeader): Promise<string[]> {
  const needs = Object.entries(requires).map(([key, value]) => `${key} ${value}`);
  const tuning = tactics?.tuning;
  return [
    ...(needs.length > 0 ? [`needs    ${needs.join('; ')}`] : []),
    ...inputs.map(({ name, dtype, dims }) => `input    ${name} ${dtype}[${dims.join(',')}]`),
    ...outputs.map(({ name, dtype, dims, dynamic }) => `output   ${name} ${dtype}[${dims.join(',')}]${dynamic ? ', for the data to decide' : ''}`),
    ...(tuning ? [`tuned    ${(await import('./tactics.ts')).describeTuning(tuning)}`] : []),
    ...notices.map((notice) => `note     ${notice}`),
  ];
}
