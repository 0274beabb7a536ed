/** An NVIDIA H200 as WebGPU describes it (Dawn on Vulkan), for scripts that generate kernels without one. */
import { PORTABLE_PROFILE } from '../dist/src/backends/webgpu/profile.js';

const matrices = (element, result, k) => [16, 8].map((n) => ({ element, result, m: 16, n, k }));
export const H200_PROFILE = {
  ...PORTABLE_PROFILE,
  features: new Set(['subgroups', 'shader-f16', 'chromium-experimental-subgroup-matrix']),
  maxWorkgroupBytes: 49152,
  maxInvocations: 1024,
  maxStorageBuffers: 16,
  maxBindingBytes: 2 ** 31 - 4,
  maxBufferBytes: 2 ** 32,
  subgroupSize: { min: 32, max: 32 },
  matrixConfigs: [...matrices('f16', 'f16', 16), ...matrices('f16', 'f32', 16), ...matrices('i8', 'i32', 32)],
};
