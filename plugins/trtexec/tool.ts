/** Runs trtexec: its arguments by build options, and what its failures mean. */
import { runTool, TsrtError, type BuildInput, type BuildOptions, type OptionSpecs, type ToolResult } from 'tsrt-bench';
import { errorLines } from './formats.ts';

export const OPTIONS = {
  best: { type: 'boolean', default: false, description: 'every precision that TensorRT finds faster (--best); goes with precision fp16 or int8' },
  tf32: { type: 'boolean', default: false, description: 'TF32, which trtexec has on unless told otherwise' },
  level: { type: 'number', default: 3, min: 0, max: 5, description: '--builderOptimizationLevel' },
  cudaGraph: { type: 'boolean', default: false, description: 'one CUDA graph for the network (--useCudaGraph)' },
  spinWait: { type: 'boolean', default: false, description: 'poll instead of waiting for an interrupt (--useSpinWait)' },
  seconds: { type: 'number', default: 1, min: 0.1, max: 600, description: 'how long each run of trtexec takes samples' },
} as const satisfies OptionSpecs;

type Values = { readonly best: boolean; readonly tf32: boolean; readonly level: number; readonly cudaGraph: boolean; readonly spinWait: boolean; readonly seconds: number };

const MINUTE = 60_000;
export const LIMITS_MS = { help: MINUTE, build: 120 * MINUTE, run: 20 * MINUTE } as const;

/** What `--shapes` and `--loadInputs` can't quote. */
const AWKWARD = /[:,'"\s]/;

export function shapesArgument(shapes: ReadonlyMap<string, readonly number[]>): string[] {
  if (shapes.size === 0) return [];
  return [`--shapes=${[...shapes].map(([name, dims]) => `${plainName(name)}:${dims.length === 0 ? 'scalar' : dims.join('x')}`).join(',')}`];
}

export function plainName(name: string): string {
  if (!AWKWARD.test(name)) return name;
  throw new TsrtError('MODEL_UNSUPPORTED', `trtexec can't be told of an input named '${name}'`, { plugin: 'trtexec', fix: 'export the model with a name without colons, commas, quotes and spaces' });
}

/** Arguments of a build. TensorRT 8.6 made `--buildOnly` into `--skipInference`. */
export function buildArguments(options: BuildOptions, values: Values, version: string): string[] {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return [
    ...(values.best ? ['--best'] : options.precision === 'fp16' ? ['--fp16'] : options.precision === 'int8' ? ['--int8'] : []),
    ...(values.tf32 ? [] : ['--noTF32']),
    ...(major > 8 || (major === 8 && minor >= 6) ? [`--builderOptimizationLevel=${values.level}`, '--skipInference'] : ['--buildOnly']),
    ...(options.workspaceBytes === undefined ? [] : [`--memPoolSize=workspace:${Math.max(1, Math.floor(options.workspaceBytes / 2 ** 20))}`]),
    '--profilingVerbosity=detailed',
  ];
}

/** Arguments of a timed run. */
export function runArguments(values: Values, transfers: boolean): string[] {
  return [
    `--duration=${values.seconds}`,
    '--warmUp=500',
    '--iterations=10',
    ...(transfers ? [] : ['--noDataTransfers']),
    ...(values.cudaGraph ? ['--useCudaGraph'] : []),
    ...(values.spinWait ? ['--useSpinWait'] : []),
  ];
}

/** Runs trtexec to its end. Throws TsrtError with its own error lines. */
export async function trtexec(args: readonly string[], timeoutMs: number, what: string, signal?: AbortSignal): Promise<ToolResult> {
  const result = await runTool({ name: 'trtexec', command: 'trtexec', args, timeoutMs, signal });
  if (result.code === 0) return result;
  const errors = errorLines(result.output);
  const details = errors.length > 0 ? errors : result.output.trimEnd().split('\n').slice(-5);
  const all = details.join('\n');
  const how = result.signal ? `by ${result.signal}` : `with status ${result.code}`;
  const error = (code: ConstructorParameters<typeof TsrtError>[0], fix: string): TsrtError => new TsrtError(code, `trtexec ended ${how} while ${what}`, { plugin: 'trtexec', details, fix });
  if (/out of memory|OutOfMemory|insufficient memory/i.test(all)) throw error('OUT_OF_MEMORY', 'use a smaller batch or precision');
  if (/no importer|UNSUPPORTED_NODE|unsupported ONNX|not supported|failed to parse/i.test(all)) throw error('MODEL_UNSUPPORTED', 'export the model for an older opset, or use another backend');
  throw error('BACKEND_FAILED', 'its own words are above; run the same command by hand to see all of them');
}

/** Why trtexec would give another precision than asked for. */
export function precisionProblem({ options, graph }: BuildInput): string | undefined {
  switch (options.precision) {
    case 'fp32':
      return options.backendOptions['best'] === true ? 'best lets TensorRT choose precisions below fp32; ask for fp16 or int8 with it' : undefined;
    case 'fp16':
      return undefined;
    case 'int8': {
      const scaled = graph.ok && graph.graph.nodes.some(({ op }) => op === 'DequantizeLinear');
      return scaled ? undefined : 'trtexec --int8 makes up ranges for a model without scales of its own; give it a model with QuantizeLinear and DequantizeLinear nodes';
    }
    case 'mixed':
      return 'trtexec chooses precisions by --best: ask for fp16 with the option best=true';
    default:
      return options.precision satisfies never;
  }
}
