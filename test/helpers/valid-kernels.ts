/** Kernels as WGSL that a device of a profile would take. */
import { expect } from 'vitest';
import type { KernelCall } from '../../src/backends/webgpu/lower/call.ts';
import type { DeviceProfile } from '../../src/backends/webgpu/profile.ts';
import { validatingDevice } from '../device/helpers.ts';

/** Every kernel compiles on Dawn's null backend, and keeps within what the profile's device binds, holds and invokes. */
export async function expectValidKernels(calls: readonly KernelCall[], profile: DeviceProfile): Promise<void> {
  const open = await validatingDevice();
  for (const { source, operands } of calls) {
    const { messages } = await open.device.createShaderModule({ code: source.wgsl }).getCompilationInfo();
    expect(messages.map(({ message, lineNum }) => `${lineNum}: ${message}`)).toEqual([]);
    expect(operands.length).toBeLessThanOrEqual(profile.maxStorageBuffers);
    expect(source.invocations).toBeLessThanOrEqual(profile.maxInvocations);
    expect(source.workgroupBytes).toBeLessThanOrEqual(profile.maxWorkgroupBytes);
  }
  open.check();
  open.destroy();
}
