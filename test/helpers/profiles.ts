/** Devices as their vendors' drivers describe them to WebGPU: limits, subgroups, matrices. */
import { type DeviceProfile, type MatrixConfig, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';

const f16 = (m: number, n: number, k: number): MatrixConfig => ({ element: 'f16', result: 'f32', m, n, k });
const halves = (m: number, n: number, k: number): MatrixConfig => ({ element: 'f16', result: 'f16', m, n, k });
const i8 = (m: number, n: number, k: number): MatrixConfig => ({ element: 'i8', result: 'i32', m, n, k });
const features = new Set(['subgroups', 'subgroup-size-control', 'shader-f16', 'chromium-experimental-subgroup-matrix']);

export const PROFILES: Readonly<Record<string, DeviceProfile>> = {
  'NVIDIA': { ...PORTABLE_PROFILE, features, maxWorkgroupBytes: 49152, maxInvocations: 1024, subgroupSize: { min: 32, max: 32 }, matrixConfigs: [halves(16, 16, 16), halves(16, 8, 16), f16(16, 16, 16), f16(16, 8, 16), i8(16, 16, 32), i8(16, 8, 32)] },
  'AMD': { ...PORTABLE_PROFILE, features, maxWorkgroupBytes: 65536, maxInvocations: 1024, subgroupSize: { min: 32, max: 64 }, matrixConfigs: [f16(16, 16, 16), i8(16, 16, 16)] },
  'Intel': { ...PORTABLE_PROFILE, features, maxWorkgroupBytes: 65536, maxInvocations: 1024, subgroupSize: { min: 16, max: 32 }, matrixConfigs: [f16(8, 16, 16), i8(8, 16, 32)] },
  'Apple': { ...PORTABLE_PROFILE, features, maxWorkgroupBytes: 32768, maxInvocations: 1024, subgroupSize: { min: 32, max: 32 }, matrixConfigs: [f16(8, 8, 8), halves(8, 8, 8)] },
  'default limits': { ...PORTABLE_PROFILE, features, subgroupSize: { min: 32, max: 32 }, matrixConfigs: [f16(16, 16, 16), i8(16, 16, 32)] },
  'no matrices': PORTABLE_PROFILE,
};
