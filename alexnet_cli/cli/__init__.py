"""The commands: parse, call core, render. The only folder that imports typer or rich; torch only inside functions."""
