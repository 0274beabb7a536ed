/**
 * `preprocess=device`: pictures reach the engine as bytes, and what a processor would otherwise do to each pixel is part of the graph.
 * Shared by the backends that compile graphs.
 */
import type { BuildOptions } from '../engine/engine.ts';
import { typeOf } from '../ir/graph.ts';
import { type PixelInput, pixelProblem } from '../ir/pixels.ts';
import type { BuildInput, Unsupported } from './backend.ts';
import type { OptionSpec } from './options.ts';

export const PREPROCESS_OPTION = {
  type: 'choice',
  default: 'host',
  choices: ['host', 'device'],
  description: 'where pixels become the numbers of an image input: on the processor, or in the engine, which then takes uint8 [N, H, W, C]',
} as const satisfies OptionSpec;

export function onDevice({ backendOptions }: Pick<BuildOptions, 'backendOptions'>): boolean {
  return backendOptions['preprocess'] === 'device';
}

/** The inputs that a build binds as bytes. */
export function wantedPixels({ options, pixels }: Pick<BuildInput, 'options' | 'pixels'>): readonly PixelInput[] {
  return onDevice(options) ? (pixels ?? []) : [];
}

/** Why pictures can't be bound as bytes, where a build asks for it. */
export function unsupportedPixels(input: BuildInput): readonly Unsupported[] {
  if (!onDevice(input.options)) return [];
  const refuse = (node: string, reason: string): Unsupported => ({ node, op: 'preprocess', reason: `preprocess=device: ${reason}` });
  const { graph, model } = input;
  const pixels = wantedPixels(input);
  if (!graph.ok) return [refuse(model.name, 'the model runs unchanged, so that nothing can be put in front of it')];
  if (pixels.length === 0) return [refuse(model.name, 'nothing says how pixels become numbers: build from a suite with an image input')];
  return pixels.flatMap((entry) => {
    const { input: id } = entry;
    if (graph.graph.outputs.includes(id)) return [refuse(id, 'the input is an output too')];
    const problem = pixelProblem(typeOf(graph.graph, id), entry);
    return problem === undefined ? [] : [refuse(id, problem)];
  });
}
