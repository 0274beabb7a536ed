/** The suite of a model that comes without one. */
import { basename, dirname } from 'node:path';
import type { SuiteSource } from './schema.ts';

/**
 * What a suite file beside the model would say: the model alone, seeded numbers for inputs, every output compared with the reference's number by
 * number, the backends that every machine may have in float. Flags narrow it as they do any suite.
 */
export function suiteOfModel(file: string): SuiteSource {
  const name = nameOf(file);
  return {
    name,
    description: `${basename(file)}, with seeded numbers for inputs`,
    model: { name, file: basename(file) },
    task: { kind: 'raw' },
    variants: [{ backend: ['onnxruntime', 'webgpu'] }, { backend: 'webgpu', precision: 'fp16' }],
    accuracy: { samples: SAMPLES },
  };
}

/** Enough to see that a variant answers as the reference does: numbers that are no data tell no more. */
const SAMPLES = 8;

/** A name as suites have: of the file, or of its folder where the file is called as everybody's is. */
function nameOf(file: string): string {
  const own = basename(file, '.onnx');
  const name = (own === 'model' ? basename(dirname(file)) : own).toLowerCase().replaceAll(/[^a-z0-9._-]+/g, '-').replace(/^[^a-z0-9]+/, '');
  return name || 'model';
}
