/** Weights of few bits as halves, for the kernels that multiply matrices of them in hardware: many rows pay for writing the weights once. */
import type { KernelCall } from '../../lower/call.ts';
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import type { DeviceProfile } from '../../profile.ts';
import { bindElements } from '../../wgsl/access.ts';
import { ModuleBuilder } from '../../wgsl/module.ts';
import { independentThreads } from '../grid.ts';
import { columnGroups, type FewBitColumns, fewBitOperands, FewBitLoader, wordDepth } from './weights.ts';

/** Writes [depth, column]; columns come in fours. */
export function dequantizeKernel(b: FewBitColumns, output: DeviceTensor, profile: DeviceProfile): KernelCall {
  const module = new ModuleBuilder(`Dequantize w${b.bits}`);
  const loader = new FewBitLoader(module, b);
  const out = bindElements(module, 'out', output, storedBytes(output), 4, 'read_write');
  const [groups, depth] = [columnGroups(b), wordDepth(b)];
  const vectors = Math.ceil(b.depth / depth);
  const workgroups = independentThreads(module, vectors * groups, profile, (block) => {
    block.let('vector', `i / ${groups}u`);
    block.let('group', `i % ${groups}u`);
    loader.block(block, 'w', 'vector', 'group');
    block.let('q', loader.load('vector', 'group'));
    for (let lane = 0; lane < depth; lane++) {
      const store = out.store(`(vector * ${depth}u + ${lane}u) * ${groups}u + group`, `w_s * ${loader.weights('q', lane, 'w')}`);
      if (b.depth % depth === 0) block.line(store);
      else block.if(`vector * ${depth}u + ${lane}u < ${b.depth}u`, (inside) => inside.line(store));
    }
  });
  return { source: module.finish(), operands: [...fewBitOperands(b), output], workgroups, precision: 'float16' };
}
