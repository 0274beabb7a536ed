/** The kernels whose speed is a device's peak: chains of multiply-adds that never leave the registers, and a copy. */
import { type DeviceProfile, matricesOf, type MatrixConfig } from './profile.ts';

export const GROUP = 256;
/** Vectors that one thread of the copy moves. */
export const COPY_PER_THREAD = 4;

/** Chains that run beside each other in a thread: as many as hide the latency of one. */
const CHAINS = 8;
const STEPS = 256;

export interface Arithmetic {
  readonly type: 'float32' | 'float16' | 'int8';
  /** Binds one buffer of 16 bytes per thread. */
  readonly wgsl: string;
  readonly operationsPerGroup: number;
}

export const EMPTY_KERNEL = '@compute @workgroup_size(64) fn main() {}\n';

export function copyKernel(vectors: number): string {
  const stride = vectors / COPY_PER_THREAD;
  return `
@group(0) @binding(0) var<storage, read> words_in: array<vec4<u32>, ${vectors}>;
@group(0) @binding(1) var<storage, read_write> words_out: array<vec4<u32>, ${vectors}>;
@compute @workgroup_size(${GROUP})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
${range(COPY_PER_THREAD).map((i) => `  words_out[id.x + ${i * stride}u] = words_in[id.x + ${i * stride}u];`).join('\n')}
}
`;
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** What the device's kernels can compute with; several of one type where there are several ways. */
export function arithmetics(profile: DeviceProfile): Arithmetic[] {
  const { features, subgroupSize } = profile;
  const matrices = subgroupSize ? (['f16', 'i8'] as const).flatMap((element) => matricesOf(profile, element)[0] ?? []) : [];
  return [
    fma('f32'),
    ...(features.has('shader-f16') ? [fma('f16')] : []),
    dots(),
    ...matrices.map((config) => matrixChains(config, subgroupSize!.max)),
  ];
}

/** What the chains begin with depends on the thread, so that nothing can be computed beforehand. */
function chains(head: string, begin: (chain: number) => string, step: (chain: number) => string, end: string): string {
  return `${head}
@group(0) @binding(0) var<storage, read_write> out: array<vec4<u32>, ${GROUP}>;
@compute @workgroup_size(${GROUP})
fn main(@builtin(local_invocation_index) lid: u32) {
${range(CHAINS).map((i) => `  var a${i} = ${begin(i)};`).join('\n')}
  for (var step = 0u; step < ${STEPS}u; step += 1u) {
${range(CHAINS).map((i) => `    a${i} = ${step(i)};`).join('\n')}
  }
  let sum = ${range(CHAINS).map((i) => `a${i}`).join(' + ')};
  out[lid] = ${end};
}
`;
}

function fma(scalar: 'f32' | 'f16'): Arithmetic {
  const type = `vec4<${scalar}>`;
  const wgsl = chains(
    scalar === 'f16' ? 'enable f16;' : '',
    (i) => `${type}(${scalar}(lid) * 0.001 + ${i / 16})`,
    (i) => `fma(a${i}, ${type}(0.999), ${type}(0.5, 0.25, 0.125, 1.0))`,
    scalar === 'f16' ? 'bitcast<vec4<u32>>(vec4<f32>(sum))' : 'bitcast<vec4<u32>>(sum)',
  );
  return { type: scalar === 'f16' ? 'float16' : 'float32', wgsl, operationsPerGroup: GROUP * STEPS * CHAINS * 4 * 2 };
}

/** Four products of bytes and their sum, on words. */
function dots(): Arithmetic {
  const wgsl = chains('', (i) => `lid + ${i}u`, (i) => `bitcast<u32>(dot4I8Packed(a${i}, 0x7f03fd81u)) + ${i}u`, 'vec4<u32>(sum)');
  return { type: 'int8', wgsl, operationsPerGroup: GROUP * STEPS * CHAINS * 8 };
}

/** Matrices of a subgroup each: down × across of them, as a tile of a product has. */
const [DOWN, ACROSS] = [4, 2];

function matrixChains({ element, result, m, n, k }: MatrixConfig, subgroup: number): Arithmetic {
  const bytes = element === 'f16' ? 2 : 1;
  const [pitch, leftVectors, rightVectors] = [(k * bytes) / 16, (m * k * bytes) / 16, (n * k * bytes) / 16];
  const resultVectors = (m * n) / 4;
  const vectors = Math.max(DOWN * leftVectors + ACROSS * rightVectors, DOWN * ACROSS * resultVectors);
  const cells = range(DOWN).flatMap((i) => range(ACROSS).map((j) => [i, j] as const));
  const wgsl = `enable subgroups;
enable chromium_experimental_subgroup_matrix;
${element === 'f16' ? 'enable f16;' : ''}
@group(0) @binding(0) var<storage, read_write> out: array<vec4<u32>, ${GROUP}>;
var<workgroup> tile: array<vec4<u32>, ${vectors}>;
@compute @workgroup_size(${GROUP})
fn main(@builtin(local_invocation_index) lid: u32) {
  for (var i = lid; i < ${vectors}u; i += ${GROUP}u) { tile[i] = vec4<u32>(${element === 'f16' ? '0x2c002c00u' : '0x01ff02feu'}) + vec4<u32>(i); }
  workgroupBarrier();
${range(DOWN).map((i) => `  let l${i} = subgroupMatrixLoad<subgroup_matrix_left<${element}, ${k}, ${m}>, row_major>(&tile, ${i * leftVectors}u, ${pitch}u);`).join('\n')}
${range(ACROSS).map((j) => `  let r${j} = subgroupMatrixLoad<subgroup_matrix_right<${element}, ${n}, ${k}>, col_major>(&tile, ${DOWN * leftVectors + j * rightVectors}u, ${pitch}u);`).join('\n')}
${cells.map(([i, j]) => `  var acc${i}_${j} = subgroup_matrix_result<${result}, ${n}, ${m}>();`).join('\n')}
  for (var step = 0u; step < ${STEPS}u; step += 1u) {
${cells.map(([i, j]) => `    acc${i}_${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, acc${i}_${j});`).join('\n')}
  }
  workgroupBarrier();
${cells.map(([i, j], at) => `  subgroupMatrixStore<row_major>(&tile, ${at * resultVectors}u, acc${i}_${j}, ${n / 4}u);`).join('\n')}
  workgroupBarrier();
  out[lid] = tile[lid % ${vectors}u];
}
`;
  return { type: element === 'f16' ? 'float16' : 'int8', wgsl, operationsPerGroup: (GROUP / subgroup) * STEPS * cells.length * 2 * m * n * k };
}
