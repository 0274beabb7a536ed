/**
 * PyTorch beside the other backends: the same ONNX file as a module in a `python3` with torch, on the same device, in the ways in
 * which people run it: eager, TF32, fp16 in channels-last, a CUDA graph, torch.compile.
 *
 * The ONNX file is decoded here and handed over as a graph and weights, so that Python needs torch and numpy and nothing else.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  cpuDevice,
  definePlugin,
  externalBackend,
  foreignTypes,
  graphFiles,
  layersOf,
  moduleGraph,
  readOptions,
  type BuildContext,
  type BuildInput,
  type ExternalBuild,
  type OptionSpecs,
  type Unsupported,
} from 'tsrt-bench';

const OPTIONS = {
  mode: {
    type: 'choice',
    default: 'eager',
    choices: ['eager', 'cuda-graph', 'compile', 'compile-reduce-overhead', 'compile-max-autotune'],
    description: 'how the module is run',
  },
  tf32: { type: 'boolean', default: false, description: 'TF32 for products and convolutions; PyTorch itself has it on for convolutions only' },
  channelsLast: { type: 'boolean', default: false, description: 'weights and pictures in NHWC order' },
  cudnnBenchmark: { type: 'boolean', default: true, description: "let cuDNN try its algorithms and take the fastest" },
  device: { type: 'choice', default: 'auto', choices: ['auto', 'cuda', 'cpu'], description: 'where it runs; auto: the first GPU, else the processor' },
  threads: { type: 'number', default: 0, min: 0, max: 1024, description: 'threads on the processor; 0: as PyTorch chooses' },
  memory: {
    type: 'choice',
    default: 'reserved',
    choices: ['reserved', 'allocated', 'process'],
    description: "device memory in the table: the allocator's peak, the tensors' peak, or the process by nvidia-smi",
  },
} as const satisfies OptionSpecs;

const SOURCES = ['driver.py', 'graph.py', 'ops.py', 'protocol.py', 'runner.py'] as const;

/** Python files lie beside the source; the built module is in `dist/plugins`. */
const folder = [fileURLToPath(new URL('.', import.meta.url)), fileURLToPath(new URL('../../../plugins/pytorch', import.meta.url))].find((place) =>
  existsSync(join(place, 'driver.py')),
);

function source(name: (typeof SOURCES)[number]): string {
  if (folder === undefined) throw new Error(`the plugin's Python files are missing beside ${dirname(fileURLToPath(import.meta.url))}`);
  return join(folder, name);
}

/** The ops that ops.py has, read from it: one list. */
function knownOps(): ReadonlySet<string> {
  const lists = readFileSync(source('ops.py'), 'utf8').matchAll(/^@op\((.*)\)$/gm);
  return new Set([...lists].flatMap(([, list]) => [...list!.matchAll(/"(\w+)"/g)].map((match) => match[1]!)));
}

function sourcesHash(): string {
  const total = createHash('sha256');
  for (const name of SOURCES) total.update(readFileSync(source(name)));
  return total.digest('hex');
}

/** What can be told from the graph as it was imported; nodes that are constant are computed before Python sees them. */
function supports({ graph, options, model }: BuildInput): readonly Unsupported[] {
  const { precision } = options;
  const reasons: Unsupported[] =
    precision === 'fp32' || precision === 'fp16' ? [] : [{ node: model.name, op: 'precision', reason: `PyTorch runs fp32 and fp16 here, not ${precision}` }];
  if (!graph.ok) return [...reasons, ...graph.unsupported];
  reasons.push(...foreignTypes(graph.graph));
  const known = knownOps();
  const fixed = new Set(graph.graph.constants.keys());
  for (const node of graph.graph.nodes) {
    const isFixed = node.op === 'Shape' || node.op === 'Size' || node.inputs.every((id) => id === '' || fixed.has(id));
    if (isFixed) for (const id of node.outputs) fixed.add(id);
    else if (!known.has(node.op)) reasons.push({ node: node.name, op: node.op, reason: 'the pytorch plugin does not have it' });
  }
  return reasons;
}

async function build(input: BuildInput, { signal }: BuildContext): Promise<ExternalBuild> {
  if (!input.graph.ok) throw new Error('build was called for a model that supports() refuses');
  const options = readOptions(OPTIONS, input.options);
  const graph = await moduleGraph(input.graph.graph, { recover: input.options.fusion === 'on', signal });
  const { json, weights } = graphFiles(graph);
  const half = input.options.precision === 'fp16';
  return {
    parts: new Map([
      ['graph.json', new TextEncoder().encode(json)],
      ['weights.bin', weights],
    ]),
    layers: layersOf(graph).map((layer) => (half && layer.precision === 'float32' ? { ...layer, precision: 'float16' } : layer)),
    memory: { weightBytes: half ? weights.byteLength / 2 : weights.byteLength, activationBytes: 0, workspaceBytes: 0, stagingBytes: 0 },
    notices: ["Timed by PyTorch's process itself, the device synchronized before and after; the conversation with it is in no sample."],
    data: { options, sources: sourcesHash() },
  };
}

export const pytorchBackend = externalBackend({
  name: 'pytorch',
  description: 'PyTorch in a python3 of this machine: eager, TF32, fp16, CUDA graph, torch.compile.',
  options: OPTIONS,
  command: () => ({
    command: process.env['TSRT_BENCH_PYTHON'] ?? 'python3',
    args: ['-u', source('driver.py')],
    env: { TSRT_BENCH_CPU_DEVICE: JSON.stringify(cpuDevice()) },
  }),
  supports,
  build,
});

export default definePlugin({ name: 'pytorch', version: '0.1.0', backends: [pytorchBackend] });
