# SPDX-License-Identifier: MIT
# gnuplot -c drain.gp DATA STEM: what draining does to the drained CPU, as STEM.svg and STEM.png. DATA is what
# weir-bench-drain writes: a block "way, slower by %, low, high; the same of the other thread; latency: median, 99 %,
# longest", and for each way a block "microseconds, gaps per second that are at least as long".
data = ARG1
stem = ARG2

shown = "0 1 4 5 6 7" # the ways, by their place in the data
colors = "#909090 #1f5fa8 #7fb2e5 #2e8b57 #d08a1d #b03030"
dashes = "1 1 1 2 1 3"
ways = words(shown)
way(k) = int(word(shown, k))
name(k) = system(sprintf("grep '^\"' '%s' | sed -n '%dp' | cut -d '\"' -f 2", data, way(k) + 1))
drawn(line) = strstrt(" " . shown . " ", sprintf(" %d ", line)) > 0
place(line) = (strstrt(" " . shown . " ", sprintf(" %d ", line)) + 1) / 2

stats data index 0 using 10 nooutput name "LONGEST"
stats data index 0 using (column(4) > column(7) ? column(4) : column(7)) nooutput name "SLOWER"
stats data index 0 using (column(3) < column(6) ? column(3) : column(6)) nooutput name "FASTER"
stats data index 5 using 2 nooutput name "GAPS"

ink = "#303030"
set border 3 lc rgb "#707070"
set tics nomirror out textcolor rgb ink
set key textcolor rgb ink
set bars 0.6

do for [format in "svg png"] {
    if (format eq "svg") {
        set terminal svg size 960, 800 font "DejaVu Sans,13" background "white" dynamic
    } else {
        set terminal pngcairo size 1440, 1200 font "DejaVu Sans,13" fontscale 1.2 linewidth 1.5 background "white"
    }
    set output stem . "." . format
    set multiplot

    # Above: gaps.
    set origin 0, 0.46
    set size 1, 0.54
    set lmargin 10
    set rmargin 4
    set title "A thread that only looks at the clock, on the drained CPU: gaps as long or longer" \
        textcolor rgb ink font ",14"
    set grid xtics ytics lt 1 lc rgb "#e4e4e4" lw 1
    set logscale xy
    set xrange [4 : 400]
    set yrange [1 : (GAPS_max > 4000 ? 2 * GAPS_max : 5000)]
    set format "%.0f"
    set xtics (4, 10, 20, 40, 100, 200, 400)
    set bmargin 3.5
    set xlabel "microseconds" textcolor rgb ink
    set ylabel "per second" textcolor rgb ink
    set key inside bottom left vertical Left reverse samplen 2.5 font ",12"
    plot for [k = 1 : ways] data index way(k) + 1 using 1:2 with steps lw 2.2 dt int(word(dashes, k)) \
        lc rgb word(colors, k) title name(k)
    unset logscale

    # Below: what a busy thread loses; and how long a drain takes.
    set origin 0, 0
    set size 0.5, 0.45
    set bmargin 3.2
    set title "How much slower the busy thread is" textcolor rgb ink font ",14"
    unset grid
    set grid ytics lt 1 lc rgb "#e4e4e4" lw 1
    set xrange [0.4 : ways + 0.6]
    set yrange [(FASTER_min < -3 ? -3 : floor(FASTER_min)) : ceil(SLOWER_max) + (SLOWER_max > 6 ? 3 : 1.5)]
    set format y "%.0f %%"
    set xtics ("nobody" 1, "QUIET" 2, "QUIET,\n256" 3, "QUIET,\nown, 256" 4, "EXPE-\nDITED" 5, "LOCK" 6) font ",11"
    unset xlabel
    unset ylabel
    set style fill solid 1.0 border rgb ink
    set key inside top left vertical Left reverse samplen 1.2 font ",11"
    set arrow 1 from 0.4, 1 to ways + 0.6, 1 nohead lc rgb "#b03030" dt (8, 5) lw 1.2
    set label 1 "1 %" at ways + 0.62, 1 left textcolor rgb "#b03030" font ",11"
    plot data index 0 using (drawn($0) ? place($0) - 0.19 : NaN):2:3:4:(0.34) with boxerrorbars lc rgb "#1f5fa8" \
             title "one object, over and over", \
         data index 0 using (drawn($0) ? place($0) + 0.19 : NaN):5:6:7:(0.34) with boxerrorbars lc rgb "#f2b866" \
             title "up to two magazines", \
         NaN with lines lc rgb ink title "between: half of the slices"
    unset arrow 1
    unset label 1

    set origin 0.5, 0
    set title "How long one drain takes" textcolor rgb ink font ",14"
    set logscale y
    set xrange [1.4 : ways + 0.6]
    set yrange [0.5 : 10 ** (ceil(log10(LONGEST_max)) + 0.6)]
    set format y "%.0f us"
    set key inside top left horizontal samplen 1 font ",11"
    plot data index 0 using (drawn($0) && $0 > 0 ? place($0) : NaN):8:8:10 with yerrorbars pt 0 ps 0 lw 1.2 \
             lc rgb "#909090" notitle, \
         data index 0 using (drawn($0) && $0 > 0 ? place($0) : NaN):10 with points pt 2 ps 0.9 lc rgb "#909090" \
             title "longest", \
         data index 0 using (drawn($0) && $0 > 0 ? place($0) : NaN):9 with points pt 6 ps 1 lw 1.6 \
             lc rgb "#1f5fa8" title "99 % within", \
         data index 0 using (drawn($0) && $0 > 0 ? place($0) : NaN):8 with points pt 7 ps 1.1 lc rgb "#1f5fa8" \
             title "median"
    unset logscale
    unset multiplot
    unset output
}
