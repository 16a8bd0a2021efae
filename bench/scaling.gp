# SPDX-License-Identifier: MIT
# gnuplot -c scaling.gp DATA STEM: modelled throughput by CPUs, as STEM.svg and STEM.png. DATA is what
# weir-bench-scaling writes: eight blocks, the pipe with four capacities, then the walk with the same.
data = ARG1
stem = ARG2
capacity = "12 60 124 252"
workload = "'Pipe: every object is freed on another CPU' 'Random walk: each CPU holds 0 to 512 objects'"

ink = "#303030"
set style line 1 lc rgb "#b8b8b8" lw 1.2 dt (6, 4)
set style line 2 lc rgb "#b03030" lw 2
set style line 3 lc rgb "#e08a1e" lw 2
set style line 4 lc rgb "#1f5fa8" lw 2
set style line 5 lc rgb "#1f5fa8" lw 1.4 dt (2, 3)
set style line 6 lc rgb "#5c9a3c" lw 1.6 dt (8, 4)
set logscale x 2
set logscale y 10
set xrange [2 : 512]
unset key

do for [format in "svg png"] {
    if (format eq "svg") {
        set terminal svg size 1120, 640 font "DejaVu Sans,12" background "white" dynamic
    } else {
        set terminal pngcairo size 1680, 960 font "DejaVu Sans,12" fontscale 1.3 linewidth 1.5 background "white"
    }
    set output stem . "." . format
    set border 3 lc rgb "#707070"
    set xtics nomirror out (2, 8, 32, 128, 512) textcolor rgb ink
    set ytics nomirror out textcolor rgb ink
    set grid xtics ytics lt 1 lc rgb "#ececec" lw 1
    set multiplot
    do for [row = 0 : 1] {
        # One range for each row, so that its panels compare.
        set yrange [*:*]
        stats data index 4 * row + 3 using 2 nooutput name "TOP"
        low = 1e9
        do for [c = 0 : 3] {
            do for [column = 3 : 5] {
                stats data index 4 * row + c using column nooutput name "LOW"
                low = LOW_min < low ? LOW_min : low
            }
        }
        set yrange [low * 0.7 : TOP_max * 1.4]
        top = row == 0 ? 0.90 : 0.45
        set label 1 word(workload, row + 1) at screen 0.075, top + 0.025 left textcolor rgb ink font ",13"
        do for [c = 0 : 3] {
            set lmargin at screen 0.075 + 0.232 * c
            set rmargin at screen 0.075 + 0.232 * c + 0.2
            set tmargin at screen top - 0.035
            set bmargin at screen top - 0.355
            set title "magazines of " . word(capacity, c + 1) offset 0, -0.6 textcolor rgb ink
            if (c == 0) {
                set ylabel "million pairs per second" offset 0.5, 0 textcolor rgb ink
            } else {
                unset ylabel
            }
            if (row == 1) {
                set xlabel "CPUs" offset 0, 0.4 textcolor rgb ink
            } else {
                unset xlabel
            }
            set format y (c == 0 ? "%g" : "")
            plot data index 4 * row + c using 1:2 with lines ls 1, \
                 data index 4 * row + c using 1:3 with lines ls 2, \
                 data index 4 * row + c using 1:4 with lines ls 3, \
                 data index 4 * row + c using 1:5 with lines ls 4, \
                 data index 4 * row + c using 1:7 with lines ls 5, \
                 data index 4 * row + c using 1:(row == 0 ? $6 : NaN) with lines ls 6
            unset label 1
        }
    }
    # The key: a plot of nothing, above.
    set lmargin at screen 0.02
    set rmargin at screen 0.98
    set tmargin at screen 0.99
    set bmargin at screen 0.95
    unset border
    unset tics
    unset grid
    unset title
    unset xlabel
    unset ylabel
    set yrange [1 : 10]
    set key center horizontal samplen 2 width -2 maxrows 1 font ",11" textcolor rgb ink
    plot NaN with lines ls 1 title "linear", NaN with lines ls 2 title "one depot", \
         NaN with lines ls 3 title "one per node", NaN with lines ls 4 title "one per cache", \
         NaN with lines ls 5 title "that, no gate", NaN with lines ls 6 title "that, freed elsewhere"
    unset key
    unset multiplot
    unset output
}
