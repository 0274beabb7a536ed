/**
 * The teams of the row kernel: how many invocations walk a row together, and how they bring together what each of them found.
 *
 * Where subgroups have one size, a team is a power of two of a subgroup's lanes, which exchange values by shuffles and wait for
 * nobody, or whole subgroups, which exchange theirs through workgroup memory. Elsewhere a team is a tree in workgroup memory, with a
 * barrier per level. Shuffles, and not subgroupAdd and its like: they serve a part of a subgroup as well, and leave NaN and infinities to
 * the same functions as the tree, where subgroupMax and subgroupMin may give anything.
 */
import type { DeviceProfile } from '../profile.ts';
import { type Block, type ModuleBuilder, type Scalar, type Width } from '../wgsl/module.ts';

export type RowReduction = 'sum' | 'prod' | 'max' | 'min';

/** What a team walks. */
export interface RowWork {
  readonly rows: number;
  /** Elements, or vectors, of a row. */
  readonly steps: number;
  /** Neighbouring invocations take neighbouring rows, not neighbouring elements of one row. */
  readonly across: boolean;
}

/** A value that every lane of a team has. */
export interface LaneValue {
  /** The code of it, which may stand more than once. */
  readonly code: string;
  readonly scalar: Scalar;
  readonly width: Width;
}

export interface RowTeam {
  /** Invocations that walk one row: a power of two. */
  readonly size: number;
  /** Rows of a workgroup. */
  readonly slots: number;
  /** Emits `lane`, the invocation's number in its team, and `slot`, the team's in its workgroup. */
  place(module: ModuleBuilder, block: Block): void;
  /** Emits the reduction of the lanes' values, of no other name than `name` and what begins with it. All lanes get the same result. */
  reduce(module: ModuleBuilder, block: Block, how: RowReduction, value: LaneValue, name: string): string;
}

/** A row's elements stay in registers from one walk to the next where a lane has no more of them than this, in vectors. */
export const MAX_HELD = 8;

/** Invocations of a workgroup that has several teams, where the device takes as many; also the largest tree. */
const GROUP = 128;
const groupOf = (profile: DeviceProfile): number => Math.min(GROUP, profile.maxInvocations);

/** The most subgroups of a team: every lane reads what each of them found. */
const MAX_PARTS = 8;

/** Where rows are plenty, a lane has at least this many steps of its row, to have loads enough under way. */
const PLENTY_STEPS = 4;

export function rowTeam(work: RowWork, profile: DeviceProfile): RowTeam {
  const subgroup = work.across ? undefined : fixedSubgroup(profile);
  return subgroup === undefined ? treeTeam(work, profile) : subgroupTeam(work, subgroup, profile);
}

/** `a` and `b` brought together. */
export function combine(how: RowReduction, a: string, b: string): string {
  switch (how) {
    case 'sum':
      return `${a} + ${b}`;
    case 'prod':
      return `${a} * ${b}`;
    case 'max':
    case 'min':
      return `${how}(${a}, ${b})`;
    default:
      return how satisfies never;
  }
}

/** The size of the device's subgroups, where all have the same. */
function fixedSubgroup({ features, subgroupSize, maxInvocations }: DeviceProfile): number | undefined {
  if (!features.has('subgroups') || !subgroupSize) return undefined;
  const { min, max } = subgroupSize;
  return min === max && max <= maxInvocations ? max : undefined;
}

const floorPower = (value: number): number => 2 ** Math.max(0, Math.floor(Math.log2(value)));
const ceilPower = (value: number): number => 2 ** Math.max(0, Math.ceil(Math.log2(value)));

/** Threads that keep the device busy. */
const busyThreads = (profile: DeviceProfile): number => profile.busyWorkgroups * GROUP;

function treeTeam({ rows, steps, across }: RowWork, profile: DeviceProfile): RowTeam {
  const size = rows >= busyThreads(profile) ? 1 : floorPower(Math.min(groupOf(profile), steps / 2));
  const slots = groupOf(profile) / size;
  return {
    size,
    slots,
    place(_, block) {
      block.let('lane', across ? `lid / ${slots}u` : `lid % ${size}u`);
      block.let('slot', across ? `lid % ${slots}u` : `lid / ${size}u`);
    },
    reduce(module, block, how, { code, scalar, width }, name) {
      if (size === 1) return code;
      const values = module.workgroup(`${name}_values`, scalar, width, size * slots);
      const at = (lane: string): string => `${values}[${across ? `(${lane}) * ${slots}u + slot` : `slot * ${size}u + ${lane}`}]`;
      block.line(`${at('lane')} = ${code}`);
      for (let half = size / 2; half >= 1; half /= 2) {
        block.line('workgroupBarrier()');
        block.if(`lane < ${half}u`, (inside) => inside.line(`${at('lane')} = ${combine(how, at('lane'), at(`lane + ${half}u`))}`));
      }
      block.line('workgroupBarrier()');
      return block.let(name, at('0u'));
    },
  };
}

/** Subgroups are told apart by their builtins: WGSL does not promise that neighbouring invocations share one. */
function subgroupTeam(work: RowWork, subgroup: number, profile: DeviceProfile): RowTeam {
  const size = subgroupTeamSize(work, subgroup, profile);
  const wanted = Math.min(groupOf(profile) / size, floorPower(work.rows / profile.busyWorkgroups));
  const slots = Math.max(1, subgroup / size, wanted);
  return {
    size,
    slots,
    place(module, block) {
      const { lane, number } = module.subgroups();
      const parts = size / subgroup;
      block.let('lane', parts > 1 ? `(${number} % ${parts}u) * ${subgroup}u + ${lane}` : `${lane} % ${size}u`);
      block.let('slot', parts > 1 ? `${number} / ${parts}u` : `${number} * ${subgroup / size}u + ${lane} / ${size}u`);
    },
    reduce(module, block, how, { code, scalar, width }, name) {
      let value = code;
      for (let half = Math.min(size, subgroup) / 2; half >= 1; half /= 2) {
        value = block.let(`${name}_${half}`, combine(how, value, `subgroupShuffleXor(${value}, ${half}u)`));
      }
      if (size <= subgroup) return value;
      return exchange(module, block, how, { code: value, scalar, width }, { name, parts: size / subgroup, slots });
    },
  };
}

/** A lane for every step; whole subgroups more where a lane could not hold its share, fewer lanes where rows are plenty. */
function subgroupTeamSize({ rows, steps }: RowWork, subgroup: number, profile: DeviceProfile): number {
  const most = Math.min(subgroup * MAX_PARTS, profile.maxInvocations);
  let size = Math.min(subgroup, ceilPower(steps));
  while (steps > MAX_HELD * size && size * 2 <= most) size *= 2;
  while (size > 1 && steps < PLENTY_STEPS * size && (rows * size) / 2 >= busyThreads(profile)) size /= 2;
  return size;
}

interface Parts {
  readonly name: string;
  /** Subgroups of a team. */
  readonly parts: number;
  readonly slots: number;
}

/** Brings together what the subgroups of a team found, in memory that no other reduction uses: one barrier is enough. */
function exchange(module: ModuleBuilder, block: Block, how: RowReduction, value: LaneValue, { name, parts, slots }: Parts): string {
  const { lane, number } = module.subgroups();
  const values = module.workgroup(`${name}_values`, value.scalar, value.width, parts * slots);
  block.if(`${lane} == 0u`, (inside) => inside.line(`${values}[${number}] = ${value.code}`));
  block.line('workgroupBarrier()');
  const found = Array.from({ length: parts }, (_, part) => `${values}[slot * ${parts}u + ${part}u]`);
  return block.let(name, found.reduce((all, part) => combine(how, all, part)));
}
