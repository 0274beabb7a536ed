#!/usr/bin/env node
// Only syntax that old versions of Node read, so that they can say what they lack.
var version = process.versions.node.split('.').map(Number);

if (version[0] < 20 || (version[0] === 20 && version[1] < 19)) {
  process.stderr.write('error: tsrt-bench needs Node 20.19 or newer; this is ' + process.version + '\n');
  process.stderr.write('  fix: install a newer Node, from https://nodejs.org or with a version manager\n');
  process.exitCode = 2;
} else {
  import('../dist/bundle/cli.js').then(
    function (cli) {
      return cli.run(process.argv.slice(2), import.meta.url);
    },
    function (error) {
      if (error.code !== 'ERR_MODULE_NOT_FOUND' || !/cli\.js/.test(error.message)) throw error;
      process.stderr.write('error: tsrt-bench is not built yet\n');
      process.stderr.write('  fix: npm run build\n');
      process.exitCode = 2;
    },
  );
}
