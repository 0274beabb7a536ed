/**
 * Is an answer right? Asked of every process before it is timed: a fast wrong answer is worth nothing.
 *
 * This is no accuracy budget, which is the suite's; it catches kernels that compute something else. Bounds are in decibels of
 * signal over error against the fp32 reference, far below what a sound variant of that precision reaches.
 */
import type { TensorMap } from '../../backends/backend.ts';
import type { Precision } from '../../engine/engine.ts';
import { sameDims } from '../../ir/tensor.ts';
import { accuracyAccumulator } from '../../suite/accuracy.ts';

const MIN_SNR_DB: Readonly<Record<Precision, number>> = { fp32: 40, fp16: 20, int8: 3, mixed: 3 };

/** What is wrong with outputs, as a sentence; undefined where they will do. */
export function answerCheck(precision: Precision, reference: TensorMap): (outputs: TensorMap) => string | undefined {
  return (outputs) => {
    const missing = Object.keys(reference).filter((name) => outputs[name] === undefined);
    if (missing.length > 0) return `outputs are missing: ${missing.join(', ')}`;
    for (const [name, { dims }] of Object.entries(reference)) {
      const own = outputs[name]!.dims;
      if (!sameDims(own, dims)) return `output '${name}' is [${own.join(',')}], the fp32 reference's [${dims.join(',')}]`;
    }
    const comparison = accuracyAccumulator({ kind: 'raw' }, { inputs: '', untrained: false });
    comparison.add({ variant: outputs, reference, labels: [], count: 1, batch: 0 });
    const { reading, nonFiniteSamples } = comparison.result();
    if (nonFiniteSamples > 0) return 'the outputs hold NaN or infinity where the fp32 reference has numbers';
    if (reading.snrDb === undefined || reading.snrDb >= MIN_SNR_DB[precision]) return undefined;
    return `the outputs differ from the fp32 reference: ${reading.snrDb.toFixed(1)} dB of signal over error, at least ${MIN_SNR_DB[precision]} dB is expected for ${precision}; largest error ${reading.maxAbsError.toPrecision(3)}`;
  };
}
