/** Which device is meant: a name as users give it, against the devices there are. */
import { TsrtError } from '../errors.ts';
import type { DeviceInfo } from './backend.ts';

/**
 * The place of the device that `wanted` names: its slug, its index, or a part of its slug or description, whatever the case.
 * `more` are devices that have no index of their own because they must be named. Throws TsrtError USAGE with the choices where
 * none fits, or several.
 */
export function matchDevice(wanted: string, devices: readonly DeviceInfo[], backend: string, more: readonly string[] = []): number {
  const exact = devices.findIndex(({ slug }) => slug === wanted);
  if (exact >= 0) return exact;
  if (/^\d+$/.test(wanted) && Number(wanted) < devices.length) return Number(wanted);
  const part = wanted.toLowerCase();
  const fits = devices.flatMap(({ slug, description }, index) => (`${slug} ${description}`.toLowerCase().includes(part) && part !== '' ? [index] : []));
  const slugs = new Set(fits.map((index) => devices[index]!.slug));
  if (fits.length > 0 && slugs.size === 1) return fits[0]!;
  const choices = [...devices.map(({ slug, description }, index) => `${index} ${slug} (${description})`), ...more];
  throw new TsrtError('USAGE', fits.length > 0 ? `'${wanted}' matches several devices of ${backend}` : `${backend} has no device '${wanted}'`, {
    fix: choices.length > 0 ? `There ${choices.length === 1 ? 'is' : 'are'}: ${choices.join(', ')}.` : 'There is none.',
  });
}
