/** `--device`, the same wherever something is built or run. */
import { Flags } from '@oclif/core';

export const DEVICE = { description: 'device: a name that doctor shows, part of such a name, or an index; swiftshader is the software adapter', helpValue: 'NAME' } as const;

export const DEVICE_FLAG = { device: Flags.string(DEVICE) } as const;
