/** What a label has to be, whatever it was read from. */
import { TsrtError } from '../errors.ts';

export interface GivenLabel {
  /** Class index as the dataset counts. */
  readonly label: number;
  /** Of the sample. */
  readonly name: string;
  readonly place: string;
  /** How many the model has, where it has classes. */
  readonly classes: number | undefined;
  readonly labelOffset: number;
}

/** The class as the model counts. Throws DATASET_INVALID for one that it does not have. */
export function checkLabel({ label, name, place, classes, labelOffset }: GivenLabel): number {
  const moved = label + labelOffset;
  if (moved >= 0 && (classes === undefined || moved < classes)) return moved;
  const note = labelOffset === 0 ? '' : ` (${moved} with the suite's labelOffset)`;
  const bound = moved < 0 ? 'below 0' : `beyond the model's ${classes} classes`;
  throw new TsrtError('DATASET_INVALID', `class ${label} of ${name}${note} is ${bound}`, {
    place,
    fix: 'check the labels, and `dataset.labelOffset` of the suite',
  });
}
