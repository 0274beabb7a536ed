/** A check that failed, in one sentence. */
export class Nonconforming extends Error {
  override readonly name = 'Nonconforming';
}
