/**
 * The runtime: loads an engine file and runs it, in a browser as in Node. No model, no protobuf, no compiler, no Node module is
 * in its import graph; a test walks that graph.
 *
 *     const adapter = await navigator.gpu.requestAdapter();
 *     const device = await openDevice(adapter);
 *     const session = await loadEngine(await deserializeEngine(bytes), device);
 *     const outputs = await session.run({ input: fromNumbers('float32', [1, 3, 224, 224], pixels) });
 *     await session.dispose();
 */
import { openDevice, type WebgpuDevice } from './backends/webgpu/device.ts';
import { createSession } from './backends/webgpu/session.ts';
import type { Session } from './backends/backend.ts';
import { isComposite } from './engine/composite.ts';
import type { Engine, EngineHeader } from './engine/engine.ts';
import { deserializeEngine } from './engine/file.ts';
import { checkCompatible } from './engine/fingerprint.ts';
import { TsrtError } from './errors.ts';

export { deserializeEngine, openDevice };
export { startLoop } from './backends/loop.ts';
export { createBatcher, type Batcher, type BatcherOptions, type BatchReport, type BatchSession } from './batcher.ts';
export type { DeviceInfo, DevicePeaks, DeviceYardstick, Execution, LayerTime, LoadSteps, Loop, ObservedMemory, Session, TensorMap } from './backends/backend.ts';
export type { DriverFacts, WebgpuDevice } from './backends/webgpu/device.ts';
export type { DeviceProfile } from './backends/webgpu/profile.ts';
export type { Binding, BuildOptions, Engine, EngineHeader, EngineLayer, MemoryLedger, Precision, TacticsReport } from './engine/engine.ts';
export type { PassReport } from './passes/pass.ts';
export { elementCount, formatType, fromNumbers, toNumbers, typedView, type Dims, type DType, type Tensor, type TensorType } from './ir/tensor.ts';
export { TsrtError };
export type { ErrorCode, ErrorOptions, ExitStatus } from './errors.ts';

/**
 * Loads an engine of the webgpu backend on a device that {@link openDevice} gave. The device stays the caller's; several
 * sessions may share it. Throws TsrtError ENGINE_INCOMPATIBLE, naming what differs, or ENGINE_INVALID. An engine built with a
 * fallback is refused: what it runs in onnxruntime has no home here.
 */
export async function loadEngine(engine: Engine, device: WebgpuDevice): Promise<Session> {
  // Nobody builds on a browser's adapter.
  checkCompatible(engine.header, 'webgpu', device.info, 'Build it for any adapter, with this version: tsrt-bench build --backend webgpu --option portable=true.');
  if (isComposite(engine.header.backendData)) throw needsOnnxruntime(engine.header);
  return createSession(engine, device);
}

function needsOnnxruntime(header: EngineHeader): TsrtError {
  return new TsrtError('ENGINE_INCOMPATIBLE', `the engine of ${header.model.name} runs in part in onnxruntime, which this runtime does not have`, {
    details: header.notices,
    fix: 'build it without --fallback, or open it in Node: openEngine of tsrt-bench/node',
  });
}
