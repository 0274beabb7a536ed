/** The backends that come with the project, the default first. */
import type { Backend } from './backend.ts';
import { nullBackend } from './null/null.ts';
import { onnxruntimeBackend } from './onnxruntime/onnxruntime.ts';
import { webgpuBackend } from './webgpu/webgpu.ts';

export const BACKENDS: readonly Backend[] = [onnxruntimeBackend, webgpuBackend, nullBackend];
