/**
 * Snake: x + sin²(αx)/α, the activation of audio networks such as BigVGAN and DAC (Ziyin, Hartwig, Ueda, "Neural Networks Fail to
 * Learn Periodic Functions and How to Fix It", 2020). Elementwise, so one formula is enough: it fuses into its neighbours on
 * webgpu and becomes standard ops for onnxruntime.
 */
import { constant, defineOp, definePlugin, formula as f, op, scalar, value } from 'tsrt-bench';

const snake = defineOp({
  domain: 'tsrt',
  name: 'Snake',
  dtypes: ['float32', 'float16'],
  attributes: { alpha: { type: 'float', default: 1, min: 0.1, max: 10, description: 'frequency' } },
  inputs: [{ name: 'x', dims: 'any' }],
  outputs: ['y'],
  infer: ({ inputs: [x] }) => [x!],
  reference: ({ attrs: { alpha }, inputs: [x] }) => [x!.values.map((v) => v + Math.sin(alpha * v) ** 2 / alpha)],
  expression({ attrs: { alpha }, inputs: [x] }) {
    const sine = f.sin(f.mul(x!, alpha));
    return f.add(x!, f.mul(f.mul(sine, sine), 1 / alpha));
  },
  int8: { output: 'own' },
  patterns: [
    {
      // x + sin(αx)²·β where β = 1/α
      name: 'written-out',
      match: op('Add', value('x'), op('Mul', op('Pow', op('Sin', op('Mul', value('x'), scalar('alpha'))), constant('two')), scalar('beta'))),
      inputs: ['x'],
      attributes(match) {
        const [alpha = 0] = match.numbers('alpha');
        const [beta = 0] = match.numbers('beta');
        const squared = match.numbers('two').every((exponent) => exponent === 2);
        return squared && alpha >= 0.1 && alpha <= 10 && Math.abs(alpha * beta - 1) < 1e-3 ? { alpha } : undefined;
      },
    },
  ],
  // WGSL promises sin to 2⁻¹¹ absolute within [−π, π] and nothing beyond.
  tolerance: { float32: { absolute: 2e-3 }, float16: { absolute: 1e-2, relative: 2e-3 } },
});

export default definePlugin({ name: 'snake', version: '1.0.0', ops: [snake] });
