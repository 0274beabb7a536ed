/** Flags for engine files as input. */
import { Flags } from '@oclif/core';

export const REBUILD_FLAG = {
  rebuild: Flags.boolean({ description: 'build an engine file that does not fit this device or version again, from the model, for this command' }),
} as const;

export const RUN_ENGINE_FLAGS = {
  engine: Flags.string({
    description: "engine files to measure in place of the suite's variants; with --backend also those",
    multiple: true,
    delimiter: ',',
    helpGroup: 'SUITE',
    helpValue: 'FILE',
  }),
  ...REBUILD_FLAG,
} as const;
