/** The one way in which this stage says that a file is wrong: what, where, and the way out. */
import { TsrtError } from '../errors.ts';

const REEXPORT = 'export the model again, or run onnx.checker.check_model on it to see what its exporter wrote';

/** An error for a file that is not a well-formed ONNX model. */
export function invalid(message: string, place: string, fix: string = REEXPORT): TsrtError {
  return new TsrtError('MODEL_INVALID', message, { place, fix });
}

/** An error for a well-formed model, or a request for one, that the project can't serve. */
export function unsupported(message: string, place: string, fix: string, details: readonly string[] = []): TsrtError {
  return new TsrtError('MODEL_UNSUPPORTED', message, { place, fix, details });
}

/** A name from a file, quoted and cut for a message: a hostile name may be megabytes long or hold control characters. */
export function quote(name: string): string {
  const visible = name.slice(0, 80).replace(/\p{Cc}/gu, '·');
  return `'${visible}${name.length > 80 ? '…' : ''}'`;
}
