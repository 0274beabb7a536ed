/**
 * ONNX's protobuf messages. Required, not imported: of a CommonJS module that is imported Node searches the text for its names
 * first, which for these 330 kB of generated code takes twice as long as all else.
 */
import { createRequire } from 'node:module';
import type onnxProto from 'onnx-proto';

export const { onnx } = createRequire(import.meta.url)('onnx-proto') as typeof onnxProto;
