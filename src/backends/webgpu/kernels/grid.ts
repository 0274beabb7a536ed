/** Grids: one flat index over workgroups, folded into two dimensions where one cannot hold it. */
import type { DeviceProfile } from '../profile.ts';
import type { Block, ModuleBuilder } from '../wgsl/module.ts';

/** Workgroup counts whose product covers `count`; kernels bound-check the flat index. */
export function foldWorkgroups(count: number, profile: DeviceProfile): [number, number, number] {
  const limit = profile.maxWorkgroupsPerDimension;
  if (count <= limit) return [Math.max(1, count), 1, 1];
  const y = Math.ceil(count / limit);
  return [Math.ceil(count / y), y, 1];
}

/** WGSL for the flat workgroup index of a grid made by {@link foldWorkgroups}. */
export function flatWorkgroup(grid: readonly [number, number, number]): string {
  return grid[1] === 1 ? 'wid.x' : '(wid.x + wid.y * groups.x)';
}

/**
 * WGSL for the flat workgroup index of a grid for `count` workgroups that wait for each other's invocations: a folded grid has more of them, and
 * those beyond the last one repeat it, since a return before barriers would not be uniform to the compiler.
 */
export function repeatedWorkgroup(grid: readonly [number, number, number], count: number): string {
  return grid[1] === 1 ? flatWorkgroup(grid) : `min(${flatWorkgroup(grid)}, ${count - 1}u)`;
}

/** Invocations per workgroup for `threads` independent threads: small groups while they are needed to fill the device. */
function flatInvocations(threads: number, profile: DeviceProfile): number {
  const wanted = threads >= 256 * profile.busyWorkgroups ? 256 : 64;
  return Math.min(wanted, profile.maxInvocations);
}

/**
 * The entry point of `threads` threads that know nothing of each other; `body` finds its thread's number in `i`. Gives the grid. `meet` is emitted
 * behind it, where all threads of a workgroup are, those beyond the last one among them.
 */
export function independentThreads(
  module: ModuleBuilder, threads: number, profile: DeviceProfile,
  body: (block: Block) => void, meet?: (block: Block, invocations: number) => void,
): [number, number, number] {
  const invocations = flatInvocations(threads, profile);
  const grid = foldWorkgroups(Math.ceil(threads / invocations), profile);
  module.main(invocations, (block) => {
    block.let('i', `${flatWorkgroup(grid)} * ${invocations}u + lid`);
    if (meet) {
      block.if(`i < ${threads}u`, body);
      meet(block, invocations);
      return;
    }
    block.if(`i >= ${threads}u`, (inside) => inside.line('return'));
    body(block);
  });
  return grid;
}
