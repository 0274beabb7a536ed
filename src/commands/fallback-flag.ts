/** `--fallback`, the webgpu backend's option of that name as a flag of its own: it decides what can be built at all. */
import { Flags } from '@oclif/core';

type Options = Readonly<Record<string, string | number | boolean>>;

export const FALLBACK_FLAG = {
  fallback: Flags.string({
    description: 'where the webgpu backend runs nodes that it has no kernel for; copies between the two are counted and shown',
    options: ['none', 'onnxruntime'],
  }),
} as const;

/** Backend options with the flag among them; `none` is what holds without the option. */
export function withFallback(options: Options, fallback: string | undefined): Options {
  if (fallback === undefined) return options;
  const { fallback: _given, ...others } = options;
  return fallback === 'none' ? others : { ...others, fallback };
}
