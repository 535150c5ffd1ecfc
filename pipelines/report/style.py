"""The page's style sheet: light and dark, print, narrow screens."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --soft: #5d6672; --paper: #ffffff; --card: #f4f5f7;
  --line: #dde1e6; --accent: #2563c9; --c1: #b4530c; --c2: #2b7d4f; --c3: #7a4bb5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa4b1; --paper: #14171b;
  --card: #1e2329; --line: #333a43; --accent: #7aa9f7; --c1: #f0a35e; --c2: #6fcf97; --c3: #c3a1f0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; }
.tile { background: var(--card); border-radius: .6rem; padding: .8rem 1rem; display: flex;
  flex-direction: column; }
.tile b { font-size: 1.7rem; } .tile span { font-weight: 600; } .tile small, td small { color: var(--soft); }
figure { margin: 0 0 1rem; }
svg { width: 100%; height: auto; max-width: 44rem; }
svg text { fill: var(--ink); font-size: 13px; }
.grid { stroke: var(--line); }
.range { stroke: var(--accent); stroke-width: 3; stroke-linecap: round; opacity: .55; }
.point, .c0 { fill: var(--accent); }
.c1 { fill: var(--c1); }
.c2 { fill: var(--c2); }
.c3 { fill: var(--c3); }
.best { fill: none; stroke: var(--soft); stroke-width: 1.5; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
td.heat { background: color-mix(in srgb, var(--accent) calc(var(--share) * 65%), transparent);
  padding-left: .6rem; }
td.heat small { display: block; color: inherit; opacity: .75; }
code, pre { font-family: ui-monospace, monospace; font-size: .85rem; }
pre { overflow-x: auto; background: var(--card); padding: .8rem; }
@media print { body { background: #fff; color: #000; } section { break-inside: avoid; }
  details { display: none; } }
"""
