/** Flags for engine files as input. */
import { Flags } from '@oclif/core';

export const REBUILD_FLAG = {
  rebuild: Flags.boolean({ description: 'if an engine file does not fit this device or version, build it again from the model, for this command only' }),
} as const;

export const RUN_ENGINE_FLAGS = {
  engine: Flags.string({
    description: "engine files to measure instead of the suite's variants; with --backend, in addition to those",
    multiple: true,
    delimiter: ',',
    helpGroup: 'SUITE',
    helpValue: 'FILE',
  }),
  ...REBUILD_FLAG,
} as const;
