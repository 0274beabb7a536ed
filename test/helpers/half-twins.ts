/** A small network with weights that halves hold, in float16 and in float32: int8 of the two must be the same. */
import type { Backend } from '../../src/backends/backend.ts';
import { compileModel } from '../../src/backends/compile.ts';
import type { EngineHeader } from '../../src/engine/engine.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { fromNumbers, retyped, toNumbers } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import type { Calibration } from '../../src/quantize/calibration.ts';
import { calibrate, forBuild } from '../../src/workflows/calibrate/calibrate.ts';
import { net } from '../unit/quantize/networks.ts';
import { buildOptions } from './options.ts';

type Twin = 'float16' | 'float32';

const dims = [2, 3, 8, 8] as const;
const pictures = [3, 5, 7].map((step) => fromNumbers('float32', dims, Array.from({ length: 384 }, (_, i) => ((i * step * 37) % 129) / 64 - 1)));

/** Two convolutions and a sum. */
export function ofHalves(dtype: Twin): Graph {
  const { b, conv } = net();
  const stem = b.node('Relu', [conv(b.input('x', { dtype: 'float32', dims }), 16, 3)], {});
  const graph = b.finish([b.node('Add', [conv(stem, 16, 3), stem], {}, { outputs: ['y'] })]);
  const constants = [...graph.constants].map(([id, tensor]) => [id, retyped(retyped(tensor, 'float16'), dtype)] as const);
  const types = [...graph.types].map(([id, type]) => [id, { dtype, dims: type.dims }] as const);
  return { ...graph, constants: new Map(constants), types: new Map(types) };
}

export interface TwinRun {
  readonly calibration: Calibration;
  readonly header: EngineHeader;
  /** Of a picture that did not calibrate. */
  readonly y: readonly number[];
}

/** Calibrated in onnxruntime, built in int8 and run. */
export async function runTwin(dtype: Twin, backend: Backend): Promise<TwinRun> {
  const [held, ...seen] = pictures.map((x) => ({ inputs: { x: retyped(x, dtype) }, count: 2, labels: [], names: [] }));
  const bytes = exportGraph(ofHalves(dtype));
  const batches = async function* () {
    yield* seen;
  };
  const dataset = { description: 'pictures', sha256: undefined, size: 4, labelled: 0, notices: [], skipped: [], batches };
  const { calibration, text } = await calibrate({
    model: { name: dtype, bytes, folder: '' }, options: { fusion: 'on', disabledPasses: [], dims: {}, inputShapes: {} }, calibrator: { method: 'minmax', scheme: 'affine', percentile: 100 },
    choices: { firstLayer: 'int8', lastLayer: 'int8', biasCorrection: true, equalization: false }, openDataset: () => Promise.resolve(dataset), signal: undefined, onProgress: () => {},
  });
  const options = buildOptions({ backend: backend.name, precision: 'int8', batch: 2 });
  const engine = await compileModel({ modelBytes: bytes, modelName: dtype, folder: undefined, options, backend, calibration: await forBuild(calibration, text), context: { signal: undefined, onProgress: undefined } });
  const session = await backend.load(engine, { device: undefined, signal: undefined });
  const { y } = await session.run(held!.inputs);
  await session.dispose();
  return { calibration, header: engine.header, y: toNumbers(y!) };
}

/** What a float16 output makes of numbers. */
export const asHalves = (numbers: readonly number[]): readonly number[] => toNumbers(fromNumbers('float16', [numbers.length], numbers));
