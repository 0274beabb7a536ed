import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Backend } from '../../../src/backends/backend.ts';
import { nullBackend } from '../../../src/backends/null/null.ts';
import type { DType } from '../../../src/ir/tensor.ts';
import { buildEngineFile } from '../../../src/workflows/build.ts';
import { openRegistry } from '../../../src/workflows/registry.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { buildOptions } from '../../helpers/options.ts';
import { modelBytes } from '../onnx/models.ts';

/** A backend whose engines run one layer in a type, whatever was asked for. */
const running = (precision: DType): Backend => ({
  ...nullBackend,
  supports: () => [],
  async build(input, context) {
    const { header, parts } = await nullBackend.build(input, context);
    return { header: { ...header, layers: [{ name: 'lstm', kind: 'LSTM', origins: ['lstm'], bytes: 0, flops: 100, precision }] }, parts };
  },
});

describe('build', () => {
  it.each([
    ['fp16', 'float32', 'the engine was requested in fp16, but runs 100 % float32'],
    ['fp16', 'float16', undefined],
    ['fp32', 'float32', undefined],
  ] as const)('says where an engine in %s runs in %s', async (precision, dtype, unproven) => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'm.onnx'), modelBytes());
    const registry = { ...(await openRegistry([])), backend: () => running(dtype) };
    const options = buildOptions({ backend: 'null', precision });
    const result = await buildEngineFile({ model: join(folder, 'm.onnx'), options, output: join(folder, 'm.engine'), registry, signal: undefined });
    expect(result.unproven).toBe(unproven);
  });
});
