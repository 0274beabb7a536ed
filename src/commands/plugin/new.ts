/** `tsrt-bench plugin new NAME`. */
import { Args, Flags } from '@oclif/core';
import type { NewPlugin } from '../../workflows/plugin-new.ts';
import { TEMPLATES, type Template } from '../../workflows/plugin-template.ts';
import { BaseCommand } from '../base.ts';

export default class PluginNew extends BaseCommand {
  static override summary = 'Start a plugin in a folder of its own: an op that works, its test, README, package.json and tsconfig';
  static override examples = [
    '<%= config.bin %> plugin new fast-gelu',
    '<%= config.bin %> plugin new fast-gelu --op com.acme.FastGelu --from model.onnx --template kernel',
  ];
  static override args = { name: Args.string({ required: true, description: 'lower-case letters, digits and dashes' }) };
  static override flags = {
    op: Flags.string({ description: 'the op, as the error message names it [default: local.NAME]', helpValue: 'DOMAIN.OP' }),
    from: Flags.string({ description: 'a model that has the op; its inputs and attributes are copied', helpValue: 'MODEL' }),
    template: Flags.string({ description: 'what the op has: one formula (expression), or a decomposition and a WGSL kernel (kernel)', options: [...TEMPLATES], default: 'expression' }),
  };

  async run(): Promise<NewPlugin> {
    const { args, flags } = await this.parse(PluginNew);
    const { newPlugin } = await import('../../workflows/plugin-new.ts');
    const made = await newPlugin({ name: args.name, op: flags.op, from: flags.from, template: flags.template as Template, cwd: process.cwd() });
    this.log(`plugin   ${args.name}, with the op ${made.op}`);
    this.log(`files    ${made.files.map((file) => `${args.name}/${file}`).join(', ')}`);
    this.log(`next     write its formula in ${args.name}/index.js, then tsrt-bench plugin test ./${args.name}`);
    return made;
  }
}
