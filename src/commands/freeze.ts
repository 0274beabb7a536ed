/** `tsrt-bench freeze MODEL`. */
import { Args, Flags } from '@oclif/core';
import { formatBytes } from '../report/units.ts';
import { shellWord } from '../text.ts';
import type { FreezeResult } from '../workflows/freeze.ts';
import { BaseCommand } from './base.ts';

export default class Freeze extends BaseCommand {
  static override summary = 'Write a model with some of its inputs made constants';
  static override description =
    'For models whose shapes depend on the value of an input (a sampling rate, the size of an image, a number of steps). Such a value must be known when an engine is built. The rest of the file stays as it is.';
  static override examples = [
    '<%= config.bin %> freeze silero_vad.onnx --value sr=16000 --output silero_vad-16k.onnx',
    '<%= config.bin %> freeze decoder.onnx --value orig_im_size=684,1024 --value has_mask_input=0 --output decoder-fixed.onnx',
  ];
  static override args = { model: Args.string({ required: true, description: 'an ONNX file' }) };
  static override flags = {
    value: Flags.string({ description: 'an input and its value, or its elements in row-major order; repeatable', helpValue: 'NAME=V[,V]', multiple: true, required: true }),
    output: Flags.string({ char: 'o', description: 'the ONNX file to write', helpValue: 'FILE', required: true }),
  };

  async run(): Promise<FreezeResult> {
    const { args, flags } = await this.parse(Freeze);
    const { freezeModel } = await import('../workflows/freeze.ts');
    const result = await freezeModel({ model: args.model, values: flags.value, output: flags.output });
    for (const { name, dtype, dims, values } of result.frozen) this.log(`frozen   ${name} ${dtype}[${dims.join(',')}] = ${values.join(', ')}`);
    this.log(`inputs   ${result.inputs.join(', ')}`);
    this.log(`written  ${result.output} (${formatBytes(result.bytes)})`);
    this.log(`next     tsrt-bench build ${shellWord(result.output)}`);
    return result;
  }
}
